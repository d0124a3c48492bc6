"""The page with the list, the log-in, and what a browser remembers."""

from __future__ import annotations

import logging
import secrets

from flask import Blueprint, Response, current_app, request, url_for

from memo import metrics, preferences
from memo.api import parse_id, query_problem
from memo.gate import FORM_KEY
from memo.identity import (
    begin_session,
    browser_key,
    current_user_id,
    end_session,
    forget_cookie,
    remember_browser,
)
from memo.memos import Page, Position
from memo.naver import ProviderError
from memo.notices import notice
from memo.rendering import back, draft_key, html, list_arguments, person
from memo.search import InvalidQuery
from memo.security import came_from_another_site
from memo.services import services

blueprint = Blueprint("pages", __name__)

_PAGE_SIZE = 50
_PINNED = "pinned-"
_UNPINNED = "unpinned"
_RETURN_TO = {"pages.index", "account.show", "forms.deleted"}
_log = logging.getLogger(__name__)


@blueprint.get("/")
def index() -> Response:
    """The page: memos for a user, the log-in for everybody else."""
    return memos_page(notice(request.args.get("notice")))


@blueprint.get("/login")
def login() -> Response:
    """Send the browser to the provider; who was sent here by another site begins on the page, and by a click."""
    if came_from_another_site():
        return back(None, 302)
    service = services()
    response = current_app.make_response("")
    key = remember_browser(response, browser_key())
    state = service.logins.begin(key)
    response.status_code = 302
    response.location = service.naver.authorization_url(_redirect_uri(), state)
    return response


@blueprint.get("/auth")
def auth() -> Response:
    """The provider's callback: check the state, learn who it is, begin a session."""
    service = services()
    state, code = request.args.get("state"), request.args.get("code")
    if not service.logins.finish(state, browser_key()):
        return _login_failed("state")
    if request.args.get("error") or not state or not code:
        return _login_failed("refused")
    try:
        profile = service.naver.profile(code, state, _redirect_uri())
    except ProviderError as error:
        _log.warning("log-in failed", extra={"reason": error.reason, "detail": error.detail})
        if error.reason == "unavailable":
            metrics.dependency_failed("naver")
        return _login_failed(error.reason)
    service.users.save(profile.id, profile.name)
    response = back(None, 302)
    begin_session(response, profile.id)
    metrics.login_ended("success")
    return response


def _login_failed(outcome: str) -> Response:
    metrics.login_ended(outcome)
    return back(f"login-{outcome}", 302)


@blueprint.post("/logout")
def logout() -> Response:
    """End the session on the server and in the browser."""
    response = back("logged-out")
    end_session(response)
    return response


@blueprint.post("/preferences")
def prefer() -> Response:
    """Choose a language or colours."""
    page = request.form.get("page")
    response = back(None, to=page if page in _RETURN_TO else "pages.index")
    preferences.remember(response, language=request.form.get("language"), theme=request.form.get("theme"))
    return response


def memos_page(message: str | None, *, text: str = "", status: int = 200) -> Response:
    """The list with the form for a new memo, or the log-in.

    Args:
        message: what to say above it.
        text: what stands in the form.
        status: the HTTP status.
    """
    somebody = person()
    if somebody is None:
        response = html("login.html", message=message)
        if current_user_id() is None:
            forget_cookie(response)
        else:
            end_session(response)  # the session outlived its user's row
        return response
    user_id, name = somebody
    service = services()
    query = request.args.get("q", "").strip()
    cursor = request.args.get("cursor", "")
    complete = True
    if query:
        try:
            found = service.memos.search(user_id, query, limit=_PAGE_SIZE, before=parse_id(cursor))
        except InvalidQuery as error:
            problem = query_problem(error)
            message, status, found = problem.description, problem.code or 400, Page([], None)
        memos, following, complete = found.memos, str(found.next or ""), found.complete
    else:
        part = service.memos.overview(user_id, limit=_PAGE_SIZE, after=_position(cursor))
        memos, following = part.memos, _cursor(part.next)
    return html(
        "memos.html",
        status,
        message=message,
        undo=parse_id(request.args.get("undo", "")),
        name=name,
        memos=memos,
        query=query,
        complete=complete,
        older=url_for("pages.index", q=query or None, cursor=following) if following else None,
        place=list_arguments(),
        first=not cursor,
        text=text,
        key=request.environ.get(FORM_KEY) or secrets.token_urlsafe(),
        draft=draft_key(user_id),
        max_characters=service.settings.memo_max_characters,
    )


def _position(cursor: str) -> Position:
    """Where a cursor of ours says that a part begins; the top for any other."""
    if cursor == _UNPINNED:
        return Position(False)
    before = parse_id(cursor.removeprefix(_PINNED))
    return Position() if before is None else Position(cursor.startswith(_PINNED), before)


def _cursor(position: Position | None) -> str:
    if position is None:
        return ""
    if position.before is None:
        return _UNPINNED
    return f"{_PINNED if position.pinned else ''}{position.before}"


def _redirect_uri() -> str:
    """Our callback as the provider knows it: the same in both steps (RFC 6749, section 4.1.3)."""
    public = services().settings.public_url
    return f"{public}{url_for('pages.auth')}" if public else url_for("pages.auth", _external=True)
