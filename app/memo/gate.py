"""Before a view runs: how often its caller may ask. The lane (`memo.lane`) has counted what it hands on."""

from __future__ import annotations

import math
from collections.abc import Callable

from flask import Flask, Response, g, request
from flask_babel import gettext
from redis.exceptions import RedisError, ResponseError

from memo.admission import NOBODY, Admitted
from memo.breaker import DependencyDown
from memo.errors import Problem
from memo.identity import BearerRefused, session_key, token_user_id
from memo.services import services
from memo.sessions import takes_no_writes

ADMITTED = "memo.admitted"
"""The place in the WSGI environment for the `Admitted` of a request that was counted before it came to Flask."""

FAILED = "memo.failed"
"""The place for an error that Flask is to answer."""

FORM_KEY = "memo.form_key"
"""The place for the key of the page's form, where another is put in its stead each time the page is shown again."""

ANSWERED = "memo.answered"
"""The place for a function that is told for how many seconds what a page says stays true."""

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_FREE = frozenset({"static", "without_slash", "health.alive", "health.ready"})
_LOG_IN = frozenset({"pages.login", "pages.auth"})


def init_app(app: Flask) -> None:
    """Guard an application."""
    app.before_request(_count)
    app.after_request(_tell)


def _count() -> None:
    if request.endpoint in _FREE:
        return
    failed: Exception | None = request.environ.get(FAILED)
    try:
        if failed is not None:
            raise failed
        wait_ms = _wait_ms()
    except ResponseError as error:
        if not takes_no_writes(error) or request.method not in _SAFE_METHODS or request.endpoint in _LOG_IN:
            raise
        return  # nothing can be counted or kept, and to read neither is needed: MySQL is asked
    if wait_ms:
        seconds = math.ceil(wait_ms / 1000)
        detail = gettext("Too many requests in a short time. Try again in %(seconds)s seconds.", seconds=seconds)
        raise Problem(429, detail, {"Retry-After": str(seconds)})


def _tell(response: Response) -> Response:
    told: Callable[[float], None] | None = request.environ.get(ANSWERED)
    if told is not None:
        told(g.get("steady_seconds", math.inf))
    return response


def _wait_ms() -> int:
    service = services()
    kind = "read" if request.method in _SAFE_METHODS else "write"
    if request.blueprint == "api" and "Authorization" in request.headers:
        try:
            user_id = token_user_id()
        except BearerRefused:
            user_id = None
        return service.limiter.address(request.remote_addr) if user_id is None else service.limiter.user(user_id, kind)
    admitted: Admitted | None = request.environ.get(ADMITTED)
    session = session_key()
    if admitted is None:
        admitted = NOBODY if session is None else service.admission.enter(session, kind)
    g.user_id = admitted.user_id
    if admitted.user_id is not None and request.endpoint not in _LOG_IN:
        return admitted.wait_ms
    try:
        return service.limiter.address(request.remote_addr)
    except (RedisError, DependencyDown):
        if request.endpoint in _LOG_IN or session is not None:
            raise
        # Nobody is logged in and nothing else of Redis is needed: no reason to refuse the page with the log-in.
        return 0
