"""Refuses what waited too long for a worker, before any work is done for it.

nginx stamps a request when it hands it to uWSGI. Whoever waited longer than the limit has likely given up or pressed
again; to serve it would keep everybody behind it waiting as long, and a queue that is once full would stay so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from memo import metrics
from memo.errors import PROBLEM, RETRY_AFTER_SECONDS

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

STAMP = "MEMO_QUEUED_AT"
"""The WSGI variable with the time of nginx, in seconds since the epoch; a client cannot set it (no `HTTP_`)."""

LIMIT_SECONDS = 1.0

_BODY = (
    b'{"type":"about:blank","title":"Service Unavailable","status":503,'
    b'"detail":"Too many requests at once. Try again in a moment."}'
)
_HEADERS = [
    ("Content-Type", PROBLEM),
    ("Content-Length", str(len(_BODY))),
    ("Retry-After", str(RETRY_AFTER_SECONDS)),
    ("Cache-Control", "no-store"),
    # nginx gives its own answer in place of this one: a page to people.
    ("X-Accel-Redirect", "@no_app"),
]


class Shed:
    """A WSGI application in front of another.

    Args:
        app: the other.
        limit: seconds that a request may have waited.
        clock: seconds since the epoch: the clock of the host, which nginx uses too.
    """

    def __init__(
        self,
        app: WSGIApplication,
        limit: float = LIMIT_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._app = app
        self._limit = limit
        self._clock = clock

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        stamp = environ.get(STAMP)
        waited = self._clock() - float(stamp) if stamp else 0.0
        if waited > self._limit:
            metrics.request_done(environ["REQUEST_METHOD"], metrics.NO_ROUTE, 503, waited)
            start_response("503 Service Unavailable", list(_HEADERS))
            return [_BODY]
        return self._app(environ, start_response)
