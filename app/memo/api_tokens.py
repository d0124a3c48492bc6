"""Personal API tokens: `PREFIX/tokens`. Made, listed and revoked by a person who is logged in, not by a token."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response

from memo.api import gone, json_object, logged_out, parse_id
from memo.errors import Problem
from memo.identity import current_user_id
from memo.memos import UnknownUser
from memo.models import TOKEN_NAME_LENGTH
from memo.serialization import json_response
from memo.services import services
from memo.tokens import MOST, InvalidName, StoredToken, TooMany

blueprint = Blueprint("api_tokens", __name__)


@blueprint.get("/tokens")
def list_tokens() -> Response:
    """The caller's tokens: name, when made, when last used; never the token itself."""
    user_id = current_user_id()
    if user_id is None:
        return logged_out()
    return json_response({"tokens": [_described(token) for token in services().tokens.of(user_id)]})


@blueprint.post("/tokens")
def create_token() -> Response:
    """Make a token from `{"name": …}`; `token` in the answer is shown this once."""
    user_id = current_user_id()
    if user_id is None:
        return logged_out()
    name = json_object(("application/json",), example='{"name": "…"}').get("name")
    if not isinstance(name, str):
        raise _bad_name()
    try:
        token, stored = services().tokens.create(user_id, name)
    except InvalidName:
        raise _bad_name() from None
    except TooMany:
        raise Problem(409, f"You have {MOST} tokens, which is the most. Revoke one first.") from None
    except UnknownUser:
        return gone()
    response = json_response({"token": token, **_described(stored)})
    response.status_code = 201
    return response


@blueprint.delete("/tokens/<token_id>")
def revoke_token(token_id: str) -> Response:
    """End a token, at once."""
    user_id = current_user_id()
    if user_id is None:
        return logged_out()
    number = parse_id(token_id)
    if number is None or not services().tokens.revoke(user_id, number):
        raise Problem(404, "You have no such token.")
    return Response(status=204)


def _described(token: StoredToken) -> dict[str, Any]:
    return {
        "id": token.id,
        "name": token.name,
        "created_at": token.created_at,
        "last_used_at": token.last_used_at,
    }


def _bad_name() -> Problem:
    return Problem(400, f'Send {{"name": …}}: 1 to {TOKEN_NAME_LENGTH} printable characters.')
