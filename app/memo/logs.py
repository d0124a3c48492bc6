"""The log: JSON on standard output, one object a line, without secrets, names or memo texts.

A request is logged by its route, not its address: the callback's address carries codes. An exception is
logged by its type and where it was raised, not by its text: a database error's text can quote a row.
"""

from __future__ import annotations

import logging
import re
import secrets
import sys
import time
import traceback
from datetime import UTC, datetime
from typing import TextIO

import orjson
from flask import Flask, Response, g, has_request_context, request

from memo import metrics

_REQUEST_ID = re.compile(r"[A-Za-z0-9=;:_.-]{1,200}")
_FIELDS = ("method", "route", "status", "ms", "dependency", "error", "number", "reason", "detail")
_PROBE_ROUTE = "health.alive"
_FRAMES = 12

LOGGED_LATER = "memo.logged_later"
"""The place in the WSGI environment by which whoever is around Flask says that it logs the request itself."""

_log = logging.getLogger("memo.request")


class JsonFormatter(logging.Formatter):
    """One log record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Only known fields get out, whatever else a record carries."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.msg if record.exc_info else record.getMessage(),
        }
        given = getattr(record, "request_id", None)
        if given is not None or has_request_context():
            line["request_id"] = given or request_id()
        line |= {name: getattr(record, name) for name in _FIELDS if getattr(record, name, None) is not None}
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = record.exc_info[0].__name__
            frames = traceback.extract_tb(record.exc_info[2])[-_FRAMES:]
            line["traceback"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
        return orjson.dumps(line, default=str).decode()


def configure(level: str, stream: TextIO | None = None) -> None:
    """Send all logs of this process to one place.

    Args:
        level: the least level of our own records; libraries' debug output, which may hold secrets, stays off.
        stream: standard output when left out.
    """
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("memo").setLevel(level)
    logging.captureWarnings(True)


def init_app(app: Flask) -> None:
    """Log an application's requests, one line each; what `memo.lane` has kept is in nginx's log alone."""
    # Flask's own handler writes tracebacks with their texts; records go to the root's handler instead.
    app.logger.handlers.clear()
    app.before_request(_start)
    app.after_request(_finish)


def request_id() -> str:
    """The id that ties our lines to the load balancer's: from X-Amzn-Trace-Id or X-Request-Id, else our own."""
    if "request_id" not in g:
        g.request_id = request_id_for(request.headers.get("X-Amzn-Trace-Id") or request.headers.get("X-Request-Id"))
    found: str = g.request_id
    return found


def request_id_for(given: str | None) -> str:
    """What came with a request if it will do, else an id of our own."""
    return given if given and _REQUEST_ID.fullmatch(given) else secrets.token_hex(16)


def _start() -> None:
    g.started = time.perf_counter()


def _finish(response: Response) -> Response:
    response.headers["X-Request-Id"] = request_id()
    route = request.url_rule.rule if request.url_rule else metrics.NO_ROUTE
    seconds = time.perf_counter() - g.started if "started" in g else 0.0
    if LOGGED_LATER not in request.environ:
        metrics.request_done(request.method, route, response.status_code, seconds)
    # Probes come every few seconds from every zone and say nothing while they succeed.
    if (request.endpoint != _PROBE_ROUTE or response.status_code >= 400) and LOGGED_LATER not in request.environ:
        log_request(request.method, route, response.status_code, seconds)
    return response


def log_request(method: str, route: str, status: int, seconds: float, request_id: str | None = None) -> None:
    """Log a request that was answered.

    Args:
        method: its method.
        route: the rule that took it.
        status: of the answer.
        seconds: it took.
        request_id: outside of Flask's handling of a request.
    """
    if not _log.isEnabledFor(logging.INFO):
        return
    # Made by hand: looking for the line of code that logs costs more than the rest.
    record = logging.LogRecord(_log.name, logging.INFO, __file__, 0, "request", None, None)
    record.__dict__.update(method=method, route=route, status=status)
    record.ms = round(seconds * 1000, 1)
    record.request_id = request_id
    _log.handle(record)
