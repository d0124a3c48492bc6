"""The JSON API of the memos: `PREFIX/memo`. `openapi.yaml` beside this file describes it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import orjson
from flask import Blueprint, Response, current_app, redirect, request, url_for
from flask_babel import gettext

from memo.errors import Problem, prefers_json
from memo.identity import BearerRefused, end_session, token_user_id
from memo.identity import current_user_id as session_user_id
from memo.memos import (
    MAX_ID,
    MAX_PAGE_SIZE,
    PAGE_SIZE,
    Changed,
    InvalidText,
    KeyReused,
    MemoGone,
    StoredMemo,
    UnknownUser,
)
from memo.models import IDEMPOTENCY_KEY_LENGTH
from memo.search import MOST_CHARACTERS, InvalidQuery
from memo.serialization import json_response
from memo.services import services

blueprint = Blueprint("api", __name__)

_KEY = re.compile(rf"[!-~]{{1,{IDEMPOTENCY_KEY_LENGTH}}}")
_CURSOR = re.compile(r"[1-9][0-9]{0,17}")
_FLAGS = {"true": True, "false": False}
_NO_SUCH_MEMO = "You have no such memo."
_PATCH_TYPES = ("application/json", "application/merge-patch+json")


@blueprint.get("/memo")
def list_memos() -> Response:
    """The caller's memos, newest first; `next` is the `cursor` of the following part, null at the end.

    With `q` only those in which every word of it is found.
    """
    user_id = caller()
    if user_id is None:
        return logged_out()
    service = services()
    limit = _limit()
    before, pinned, query = _cursor(), _flag("pinned"), request.args.get("q")
    if query is None:
        page = service.memos.page(user_id, limit=limit, before=before, pinned=pinned)
    else:
        try:
            page = service.memos.search(user_id, query, limit=limit, before=before, pinned=pinned)
        except InvalidQuery as error:
            raise query_problem(error) from None
    if not page.memos and not service.users.find(user_id)[0]:
        return gone()
    following = None if page.next is None else str(page.next)
    found = {} if query is None else {"complete": page.complete}
    return _cacheable(json_response({"memos": page.memos, "next": following, **found}))


@blueprint.post("/memo")
def create_memo() -> Response:
    """Store `{"text": …}`; answers 200 with the memo, as the clients that exist expect."""
    user_id = caller()
    if user_id is None:
        return logged_out()
    key = _idempotency_key()
    try:
        memo = services().memos.add(user_id, _text(json_object(("application/json",))), key)
    except InvalidText as error:
        raise text_problem(error) from None
    except KeyReused:
        raise Problem(422, "This Idempotency-Key came with another text before. Use a new one.") from None
    except MemoGone:
        raise Problem(410, "The memo that this Idempotency-Key made has been deleted.") from None
    except UnknownUser:
        return gone()
    return json_response(memo)


@blueprint.get("/memo/<memo_id>")
def read_memo(memo_id: str) -> Response:
    """One of the caller's memos."""
    user_id = caller()
    if user_id is None:
        return logged_out()
    number = parse_id(memo_id)
    memo = None if number is None else services().memos.find(user_id, number)
    if memo is None:
        raise Problem(404, _NO_SUCH_MEMO)
    return _cacheable(json_response(memo))


@blueprint.patch("/memo/<memo_id>")
def change_memo(memo_id: str) -> Response:
    """Change the text, or pin: `{"text": …, "pinned": true}`, either or both (RFC 7396). If-Match is honoured."""
    user_id = caller()
    if user_id is None:
        return logged_out()
    body = json_object(_PATCH_TYPES)
    unknown = sorted(set(body) - {"text", "pinned"})
    if unknown or not body:
        raise Problem(400, "Send 'text', 'pinned' or both, and nothing else.")
    if not isinstance(body.get("pinned", False), bool):
        raise Problem(400, "'pinned' must be true or false.")
    text = _text(body) if "text" in body else None
    number = parse_id(memo_id)
    try:
        memo = (
            None
            if number is None
            else services().memos.change(user_id, number, text=text, pinned=body.get("pinned"), unless=_if_match())
        )
    except InvalidText as error:
        raise text_problem(error) from None
    except Changed:
        raise _changed() from None
    if memo is None:
        raise Problem(404, _NO_SUCH_MEMO)
    response = json_response(memo)
    response.add_etag()
    return response


@blueprint.post("/memo/<memo_id>/restore")
def restore_memo(memo_id: str) -> Response:
    """Bring back a memo that the caller deleted, as it was."""
    user_id = caller()
    if user_id is None:
        return logged_out()
    number = parse_id(memo_id)
    memo = None if number is None else services().memos.restore(user_id, number)
    if memo is None:
        raise Problem(404, "You have deleted no such memo, or too long ago.")
    return json_response(memo)


@blueprint.delete("/memo/<memo_id>")
def delete_memo(memo_id: str) -> Response:
    """Delete one of the caller's memos. If-Match is honoured."""
    user_id = caller()
    if user_id is None:
        return logged_out()
    number = parse_id(memo_id)
    try:
        deleted = number is not None and services().memos.delete(user_id, number, unless=_if_match())
    except Changed:
        raise _changed() from None
    if not deleted:
        raise Problem(404, _NO_SUCH_MEMO)
    return Response(status=204)


def caller() -> str | None:
    """The id of the user who asks, by a personal token or by a session; None without either.

    Raises:
        Problem: 401, the token is none, or no longer.
    """
    try:
        by_token = token_user_id()
    except BearerRefused:
        raise Problem(
            401,
            "This API token is not known: it may have been revoked.",
            {"WWW-Authenticate": 'Bearer realm="memo", error="invalid_token"'},  # RFC 6750, section 3
        ) from None
    return by_token if by_token is not None else session_user_id()


def logged_out() -> Response:
    """What a caller without a live session gets: the way to the page, or 401 for a program that asks for JSON."""
    if prefers_json():
        # RFC 9110 wants a challenge with every 401: a token, or a cookie from the page, which has no registered scheme.
        challenge = 'Bearer realm="memo", Cookie realm="memo"'
        raise Problem(401, "Log in on the page first, or send an API token.", {"WWW-Authenticate": challenge})
    response = redirect(url_for("pages.index"), 302)
    response.headers.add("Vary", "Accept")
    return response  # type: ignore[return-value]  # Flask's own response class at run time


def text_problem(error: InvalidText) -> Problem:
    """The answer to a text that is no memo."""
    limit = services().settings.memo_max_characters
    if error.reason == "too-long":
        return Problem(413, gettext("A memo has at most %(limit)s characters.", limit=limit), max_characters=limit)
    if error.reason == "blank":
        detail = gettext("A memo needs some text. At most %(limit)s characters.", limit=limit)
    else:
        detail = gettext("The text is not valid Unicode. At most %(limit)s characters.", limit=limit)
    return Problem(400, detail, max_characters=limit)


def query_problem(error: InvalidQuery) -> Problem:
    """The answer to a search that cannot be made."""
    if error.reason == "too-long":
        detail = gettext("Search for at most %(most)s characters.", most=MOST_CHARACTERS)
        return Problem(400, detail, max_characters=MOST_CHARACTERS)
    # It can be read; there is just nothing to look up by (RFC 9110, section 15.5.21).
    return Problem(422, gettext("Search for at least two letters or digits, or one Korean syllable."))


def parse_id(value: str) -> int | None:
    """A memo's id from outside, None when it cannot be one."""
    if not (value.isascii() and value.isdigit()) or len(value) > len(str(MAX_ID)):
        return None
    return int(value) if 0 < int(value) <= MAX_ID else None


def gone() -> Response:
    """The session outlived its user's row: the same as no session."""
    response = current_app.make_response("")
    end_session(response)
    return logged_out()


def _cacheable(response: Response) -> Response:
    """Let a client keep the answer and ask whether it still holds (RFC 9110, section 13)."""
    response.add_etag()
    response.headers["Cache-Control"] = "private, no-cache"
    response.headers.add("Vary", "Accept, Authorization, Cookie")
    response.make_conditional(request)
    return response


def _if_match() -> Callable[[StoredMemo], bool] | None:
    """A test that stops a change when the memo is not the one the caller has seen."""
    wanted = request.if_match
    if not wanted:
        return None

    def differs(memo: StoredMemo) -> bool:
        seen = json_response(memo)
        seen.add_etag()
        tag, _ = seen.get_etag()
        return tag is None or not wanted.contains(tag)

    return differs


def _changed() -> Problem:
    return Problem(412, "The memo was changed meanwhile. Read it again before you change it.")


def _idempotency_key() -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is not None and _KEY.fullmatch(key) is None:
        raise Problem(400, f"An Idempotency-Key has 1 to {IDEMPOTENCY_KEY_LENGTH} visible ASCII characters.")
    return key


def _limit() -> int:
    value = request.args.get("limit")
    if value is None:
        return PAGE_SIZE
    number = parse_id(value)
    if number is None or number > MAX_PAGE_SIZE:
        raise Problem(400, f"'limit' must be a whole number from 1 to {MAX_PAGE_SIZE}.")
    return number


def _cursor() -> int | None:
    value = request.args.get("cursor")
    if value is not None and _CURSOR.fullmatch(value) is None:
        raise Problem(400, "'cursor' must be the 'next' of the part before.")
    return None if value is None else int(value)


def _flag(name: str) -> bool | None:
    value = request.args.get(name)
    if value is None:
        return None
    if value not in _FLAGS:
        raise Problem(400, f"'{name}' must be true or false.")
    return _FLAGS[value]


def json_object(types: tuple[str, ...], example: str = '{"text": "…"}') -> dict[str, Any]:
    """The request's body.

    Args:
        types: the media types that will do.
        example: a body, for the error's words.

    Raises:
        Problem: 415 or 400.
    """
    if request.mimetype not in types:
        header = "Accept-Patch" if request.method == "PATCH" else "Accept-Post"
        raise Problem(415, f"Send {example} with Content-Type: {types[0]}.", {header: ", ".join(types)})
    try:
        body: Any = orjson.loads(request.get_data(cache=False))
    except orjson.JSONDecodeError:
        raise Problem(400, f"The body is not valid JSON in UTF-8. Send {example}.") from None
    if not isinstance(body, dict):
        raise Problem(400, f"The body is not a JSON object. Send {example}.")
    return body


def _text(body: dict[str, Any]) -> str:
    if not isinstance(body.get("text"), str):
        raise Problem(400, '\'text\' is missing or not a string. Send {"text": "…"}.')
    text: str = body["text"]
    return text
