"""The JSON API: `PREFIX/memo`."""

from __future__ import annotations

from typing import Any

import orjson
from flask import Blueprint, Response, current_app, redirect, request, url_for

from memo.errors import Problem, prefers_json
from memo.identity import current_user_id, end_session
from memo.memos import MAX_ID, MAX_PAGE_SIZE, PAGE_SIZE, InvalidText, UnknownUser
from memo.serialization import json_response
from memo.services import services

blueprint = Blueprint("api", __name__)


@blueprint.get("/memo")
def list_memos() -> Response:
    """The caller's memos, newest first; `next` is the `cursor` of the following part, null at the end."""
    user_id = current_user_id()
    if user_id is None:
        return logged_out()
    service = services()
    before = _number("cursor", None, MAX_ID)
    page = service.memos.page(user_id, limit=_number("limit", PAGE_SIZE, MAX_PAGE_SIZE) or PAGE_SIZE, before=before)
    if not page.memos and not service.users.find(user_id)[0]:
        return _gone()
    following = None if page.next is None else str(page.next)
    return json_response({"memos": page.memos, "next": following})


@blueprint.post("/memo")
def create_memo() -> Response:
    """Store `{"text": …}`; answers 200 with the memo, as the clients that exist expect."""
    user_id = current_user_id()
    if user_id is None:
        return logged_out()
    try:
        memo = services().memos.add(user_id, _text())
    except InvalidText as error:
        raise text_problem(error) from None
    except UnknownUser:
        return _gone()
    return json_response(memo)


@blueprint.delete("/memo/<memo_id>")
def delete_memo(memo_id: str) -> Response:
    """Delete one of the caller's memos."""
    user_id = current_user_id()
    if user_id is None:
        return logged_out()
    number = parse_id(memo_id)
    if number is None or not services().memos.delete(user_id, number):
        raise Problem(404, "You have no such memo.")
    return Response(status=204)


def logged_out() -> Response:
    """What a caller without a live session gets: the way to the page, or 401 for a program that asks for JSON."""
    if prefers_json():
        # RFC 9110 wants a challenge with every 401; there is no registered scheme for "a cookie from the page".
        raise Problem(401, "Log in on the page first.", {"WWW-Authenticate": 'Cookie realm="memo"', "Vary": "Accept"})
    response = redirect(url_for("pages.index"), 302)
    response.headers.add("Vary", "Accept")
    return response  # type: ignore[return-value]  # Flask's own response class at run time


def text_problem(error: InvalidText) -> Problem:
    """The answer to a text that is no memo."""
    limit = services().settings.memo_max_characters
    if error.reason == "too-long":
        return Problem(413, f"A memo has at most {limit} characters.", max_characters=limit)
    detail = "A memo needs some text." if error.reason == "blank" else "The text is not valid Unicode."
    return Problem(400, f"{detail} At most {limit} characters.", max_characters=limit)


def parse_id(value: str) -> int | None:
    """A memo's id from outside, None when it cannot be one."""
    if not (value.isascii() and value.isdigit()) or len(value) > len(str(MAX_ID)):
        return None
    return int(value) if 0 < int(value) <= MAX_ID else None


def _gone() -> Response:
    """The session outlived its user's row: the same as no session."""
    response = current_app.make_response("")
    end_session(response)
    return logged_out()


def _number(name: str, default: int | None, most: int) -> int | None:
    value = request.args.get(name)
    if value is None:
        return default
    number = parse_id(value)
    if number is None or number > most:
        raise Problem(400, f"'{name}' must be a whole number from 1 to {most}.")
    return number


def _text() -> str:
    if request.mimetype != "application/json":
        raise Problem(
            415, 'Send {"text": "…"} with Content-Type: application/json.', {"Accept-Post": "application/json"}
        )
    try:
        body: Any = orjson.loads(request.get_data(cache=False))
    except orjson.JSONDecodeError:
        raise Problem(400, 'The body is not valid JSON in UTF-8. Send {"text": "…"}.') from None
    if not isinstance(body, dict):
        raise Problem(400, 'The body is not a JSON object. Send {"text": "…"}.')
    if not isinstance(body.get("text"), str):
        raise Problem(400, '\'text\' is missing or not a string. Send {"text": "…"}.')
    text: str = body["text"]
    return text
