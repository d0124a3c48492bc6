"""Every error, as a page for people and as problem+json (RFC 9457) for programs. One place for both.

MySQL or Redis being down is a 503 with `Retry-After`, whichever view noticed it.
"""

from __future__ import annotations

import logging
from typing import Any

from flask import Flask, Response, current_app, render_template, request, url_for
from flask_babel import gettext
from redis.exceptions import RedisError
from sqlalchemy import exc
from werkzeug.exceptions import HTTPException, InternalServerError, RequestEntityTooLarge

from memo import metrics
from memo.breaker import DependencyDown
from memo.notices import N_
from memo.serialization import json_response
from memo.services import services

PROBLEM = "application/problem+json"
RETRY_AFTER_SECONDS = 5

_WRITING = ("forms.create_memo", "forms.change_memo")
"""The forms that carry a text somebody typed."""

_PROGRAMS = ("api", "api_document", "api_tokens", "health")
"""The blueprints that programs talk to."""

_log = logging.getLogger(__name__)

_DATABASE_DOWN = (exc.OperationalError, exc.InterfaceError, exc.TimeoutError)

_WORDS = {
    "mysql": (
        N_("The memos cannot be reached"),
        N_("The database does not answer. Stored memos are safe; try again in a moment."),
    ),
    "redis": (N_("Log-ins cannot be checked"), N_("The session store does not answer. Try again in a moment.")),
}

# Werkzeug's own words are English, and meant for programs.
_PAGES = {
    400: (N_("That request cannot be read"), N_("Go back, and try it again from the page.")),
    403: (N_("That is not allowed"), N_("This request came from another site.")),
    404: (N_("There is no such page"), N_("The address may be mistyped, or what was here is gone.")),
    405: (N_("That is not how this page is used"), N_("Open it from the memos instead.")),
    413: (N_("That is too long"), ""),
    429: (N_("That was too fast"), ""),
    500: (N_("Something went wrong here"), N_("It has been noted. Try again in a moment.")),
}


class Problem(HTTPException):
    """An answer with further members, for example the limit that was passed.

    Args:
        status: the HTTP status.
        detail: a sentence for a person.
        headers: further response headers.
        members: further members of the JSON.
    """

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None, **members: object) -> None:
        super().__init__(detail)
        self.code = status
        self.headers = headers or {}
        self.members = members


def prefers_json() -> bool:
    """Whether the caller would rather have JSON than a page; a caller without preference would not."""
    accepted = request.accept_mimetypes
    best = max(accepted.quality("application/json"), accepted.quality(PROBLEM))
    return best > accepted.quality("text/html")


def init_app(app: Flask) -> None:
    """Answer an application's errors."""
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(RedisError, _redis)
    app.register_error_handler(DependencyDown, _still_down)
    for error in _DATABASE_DOWN:
        app.register_error_handler(error, _mysql)


def _http(error: HTTPException) -> Response:
    if error.response is not None:  # a redirect made by routing
        return current_app.make_response(error.response)
    members: dict[str, Any] = {}
    headers: dict[str, str] = {}
    detail = error.description or ""
    if isinstance(error, Problem):
        members, headers = dict(error.members), error.headers
    elif isinstance(error, RequestEntityTooLarge):
        limit = services().settings.memo_max_characters
        members = {"max_characters": limit}
        detail = gettext("A memo has at most %(limit)s characters.", limit=limit)
    elif isinstance(error, InternalServerError):
        detail = gettext("Something went wrong here. It has been noted.")
    allow = dict(error.get_headers()).get("Allow")
    if allow:
        headers = {**headers, "Allow": allow}
    return respond(error.code or 500, error.name, detail, headers, members)


def _mysql(error: exc.SQLAlchemyError) -> Response:
    orig = getattr(error, "orig", None)
    number = orig.args[0] if orig is not None and orig.args else None
    return _unavailable("mysql", type(orig or error).__name__, number if isinstance(number, int) else None)


def _redis(error: RedisError) -> Response:
    return _unavailable("redis", type(error).__name__, None)


def _still_down(error: DependencyDown) -> Response:
    return _unavailable(error.name, type(error).__name__, None)


def _unavailable(dependency: str, error: str, number: int | None) -> Response:
    metrics.dependency_failed(dependency)
    _log.error("dependency down", extra={"dependency": dependency, "error": error, "number": number})
    title, detail = (gettext(words) for words in _WORDS[dependency])
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
    return respond(503, title, detail, headers, {"dependency": dependency})


def respond(status: int, title: str, detail: str, headers: dict[str, str], members: dict[str, Any]) -> Response:
    """An error in the form the caller wants."""
    if _is_api() or prefers_json():
        body = {"type": "about:blank", "title": title, "status": status, "detail": detail, **members}
        response = json_response(body)
        response.mimetype = PROBLEM
    else:
        words = _PAGES.get(status)
        if words is not None:
            title, detail = gettext(words[0]), gettext(words[1]) if words[1] else detail
        kept = request.form.to_dict() if status == 503 and request.endpoint in _WRITING else {}
        html = render_template("error.html", status=status, title=title, detail=detail, kept=kept)
        response = Response(html, mimetype="text/html")
    response.status_code = status
    response.headers.update(headers)
    response.headers.add("Vary", "Accept")
    return response


def _is_api() -> bool:
    if request.blueprint is not None:
        return request.blueprint in _PROGRAMS
    # A method or path under them that no route takes.
    roots = (url_for("api.list_memos"), url_for("api_tokens.list_tokens"))
    return any(request.path == root or request.path.startswith(f"{root}/") for root in roots)
