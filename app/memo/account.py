"""The account's page: export and import, sessions, API tokens, and the end of it all."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from flask import Blueprint, Response, current_app, request, stream_with_context
from flask_babel import gettext, ngettext
from werkzeug.exceptions import RequestEntityTooLarge

from memo.api import parse_id
from memo.identity import end_session, session_name
from memo.memos import UnknownUser
from memo.models import TOKEN_NAME_LENGTH
from memo.notices import notice
from memo.portability import MOST_BYTES, MOST_MEMOS, InvalidExport, as_json, as_markdown, every, parse
from memo.rendering import back, draft_key, html, person, session_over
from memo.services import services
from memo.tokens import MOST, InvalidName, TooMany

blueprint = Blueprint("account", __name__)

_FORM_OVERHEAD = 4096
_READ_AT_ONCE = 1024 * 1024
_MOST_SESSIONS = 50
"""So many are shown; ending all others ends the rest too."""

_DELETING_SECONDS = 5
"""Well below the web server's limit for a request."""

CONFIRMATION = "delete"
"""What is typed to delete an account, in every language: it must be possible on any keyboard."""


@blueprint.get("/account")
def show() -> Response:
    """The page."""
    return _page(notice(request.args.get("notice")))


@blueprint.get("/import")
@blueprint.get("/account/tokens")
@blueprint.get("/account/delete")
def again() -> Response:
    """The address of a form's answer, opened again."""
    return back(None, to="account.show")


@blueprint.get("/export")
def export() -> Response:
    """All memos as a file: `?format=json`, which can be imported, or `markdown`. Read and sent in parts."""
    somebody = person()
    if somebody is None:
        return session_over()
    now = datetime.now(UTC)
    memos = every(services().memos, somebody[0])
    markdown = request.args.get("format") == "markdown"
    parts: Iterator[bytes] = as_markdown(memos) if markdown else as_json(memos, now)
    response = current_app.response_class(
        stream_with_context(parts), mimetype="text/markdown" if markdown else "application/json"
    )
    name = f"memos-{now:%Y-%m-%d}.{'md' if markdown else 'json'}"
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


@blueprint.post("/import")
def import_() -> Response:
    """Add the memos of an exported file."""
    somebody = person()
    if somebody is None:
        return session_over()
    # More than a memo may have; werkzeug reads a part of a file at once, which counts as memory.
    request.max_content_length = MOST_BYTES + _FORM_OVERHEAD
    request.max_form_memory_size = _READ_AT_ONCE
    try:
        given = request.files.get("file")
    except RequestEntityTooLarge:
        return _page(_import_problem(InvalidExport("too-many")), 413)
    if given is None or not given.filename:
        return _page(gettext("Choose a file first."), 400)
    try:
        memos = parse(given.read(), services().memos)
        stored = services().importer.add(somebody[0], memos)
    except InvalidExport as error:
        return _page(_import_problem(error), 400)
    except UnknownUser:
        return session_over()
    message = ngettext("%(num)s memo was imported.", "%(num)s memos were imported.", stored)
    if stored < len(memos):
        message += " " + ngettext("%(num)s was here already.", "%(num)s were here already.", len(memos) - stored)
    return _page(message)


@blueprint.post("/account/tokens")
def create_token() -> Response:
    """Make an API token; it is shown this once, so there is no redirect."""
    somebody = person()
    if somebody is None:
        return session_over()
    try:
        token, stored = services().tokens.create(somebody[0], request.form.get("name", ""))
    except InvalidName:
        return _page(gettext("Give the token a name of 1 to %(most)s characters.", most=TOKEN_NAME_LENGTH), 400)
    except TooMany:
        return _page(gettext("You have %(most)s tokens, which is the most. Revoke one first.", most=MOST), 409)
    except UnknownUser:
        return session_over()
    return _page(None, token=token, token_name=stored.name)


@blueprint.post("/account/tokens/<token_id>/revoke")
def revoke_token(token_id: str) -> Response:
    """End a token, at once."""
    somebody = person()
    if somebody is None:
        return session_over()
    number = parse_id(token_id)
    revoked = number is not None and services().tokens.revoke(somebody[0], number)
    return back("token-revoked" if revoked else "no-such-token", to="account.show")


@blueprint.post("/account/sessions/end")
def end_sessions() -> Response:
    """End one other session, or without a name all others."""
    somebody = person()
    if somebody is None:
        return session_over()
    name = request.form.get("session")
    if name is None:
        services().sessions.end_all(somebody[0], but=session_name())
        return back("sessions-ended", to="account.show")
    ended = services().sessions.end_named(somebody[0], name)
    return back("session-ended" if ended else "no-such-session", to="account.show")


@blueprint.post("/account/delete")
def delete() -> Response:
    """Delete the account and all that is in it, after the word to confirm was typed."""
    somebody = person()
    if somebody is None:
        return session_over()
    if request.form.get("confirm", "").strip().lower() != CONFIRMATION:
        return _page(notice("unconfirmed"), 400)
    service = services()
    service.sessions.end_all(somebody[0], but=session_name())
    if not service.accounts.delete(somebody[0], seconds=_DELETING_SECONDS):
        return back("account-going", to="account.show")
    response = back("account-deleted")
    end_session(response)
    return response


def _page(
    message: str | None, status: int = 200, *, token: str | None = None, token_name: str | None = None
) -> Response:
    somebody = person()
    if somebody is None:
        return session_over()
    user_id, name = somebody
    service = services()
    return html(
        "account.html",
        status,
        message=message,
        name=name,
        sessions=service.sessions.of(user_id)[:_MOST_SESSIONS],
        this_session=session_name(),
        tokens=service.tokens.of(user_id),
        token=token,
        token_name=token_name,
        token_name_length=TOKEN_NAME_LENGTH,
        confirmation=CONFIRMATION,
        most_memos=MOST_MEMOS,
        draft=draft_key(user_id),
    )


def _import_problem(error: InvalidExport) -> str:
    number, limit = error.number, services().settings.memo_max_characters
    words = {
        "not-json": gettext("This file is not JSON. Choose a file that was exported here as JSON."),
        "not-an-export": gettext("This file was not exported here. Choose a file that was exported here as JSON."),
        "too-many": gettext(
            "This file is too large: at most %(memos)s memos and %(size)s MB. Split it and import the parts.",
            memos=MOST_MEMOS,
            size=MOST_BYTES // 2**20,
        ),
        "no-memo": gettext("Memo no. %(number)s in the file has no text.", number=number),
        "blank": gettext("Memo no. %(number)s in the file is empty.", number=number),
        "too-long": gettext(
            "Memo no. %(number)s in the file is too long: at most %(limit)s characters.", number=number, limit=limit
        ),
        "not-text": gettext("Memo no. %(number)s in the file is not valid text.", number=number),
        "no-time": gettext("Memo no. %(number)s in the file has no valid time.", number=number),
    }
    return f"{words[error.reason]} {gettext('Nothing was imported.')}"
