"""The short way for the requests that make up most of the load; Flask answers everything else, and every doubt.

It takes the list of memos and the page, asked for as browsers and programs usually do, and a new memo as JSON. What it
answers a read with is what Flask answered before, kept by `memo.cache`; a test compares the two for many requests.
"""

from __future__ import annotations

import hashlib
import io
import logging
import re
import secrets
import time
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from flask import Flask
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.http import http_date

from memo import logs, metrics, preferences, security
from memo.admission import HEAD, Admitted
from memo.breaker import DependencyDown
from memo.cache import LIFETIME_SECONDS, new_fence
from memo.gate import ADMITTED, ANSWERED, FAILED, FORM_KEY
from memo.identity import named_like
from memo.memos import InvalidText, UnknownUser
from memo.serialization import dump
from memo.services import Services

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

Headers = list[tuple[str, str]]

_log = logging.getLogger(__name__)

_JSON = "application/json"
_ETAG = re.compile(r'(?:W/)?"([0-9a-f]{40})"')
_NO_ETAG = " " * 40
_UNUSUAL = frozenset(
    {
        "HTTP_AUTHORIZATION",
        "HTTP_IDEMPOTENCY_KEY",
        "HTTP_IF_MATCH",
        "HTTP_IF_MODIFIED_SINCE",
        "HTTP_IF_RANGE",
        "HTTP_IF_UNMODIFIED_SINCE",
        "HTTP_RANGE",
        "HTTP_TRANSFER_ENCODING",
        "HTTP_X_MEMO_FRAGMENT",
    }
)
_SCHEMES = frozenset({"http", "https"})
_NOT_OF_A_304 = frozenset({"Content-Type", "Content-Length"}) | security.HEADERS
_OF_THE_MOMENT = frozenset({"Date", "X-Request-Id"})
_LONGEST_SECONDS = 2 * LIFETIME_SECONDS


class Lane:
    """The WSGI application around Flask's.

    Args:
        app: Flask's application.
        services: its parts.
    """

    def __init__(self, app: Flask, services: Services) -> None:
        self._flask = app
        self._app: WSGIApplication = app.wsgi_app
        self._services = services
        settings = services.settings
        self._list = f"{settings.url_prefix}/memo"
        self._page = f"{settings.url_prefix}/"
        self._behind_proxy = settings.trusted_proxies > 0
        self._cookie = settings.cookie_name
        self._language = named_like(settings.cookie_name, preferences.LANGUAGE_COOKIE)
        self._theme = named_like(settings.cookie_name, preferences.THEME_COOKIE)
        self._longest_body = int(app.config["MAX_CONTENT_LENGTH"])
        # Another version, or another configuration, may answer in another way: each keeps its own answers.
        self._version = _fingerprint(settings.url_prefix, str(settings.memo_max_characters))

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        path = environ["PATH_INFO"]
        if (path == self._list or path == self._page) and not (
            environ.get("QUERY_STRING") or environ.get("SCRIPT_NAME") or not _UNUSUAL.isdisjoint(environ)
        ):
            method = environ["REQUEST_METHOD"]
            session = self._session(environ) if method in ("GET", "POST") else None
            if session is not None:
                if method == "GET":
                    return self._read(environ, start_response, session, path)
                if path == self._list:
                    return self._write(environ, start_response, session)
        return self._app(environ, start_response)

    def _session(self, environ: WSGIEnvironment) -> str | None:
        """The session's key in Redis; None also when the cookies are not as plain as browsers send them."""
        found = _cookie(environ.get("HTTP_COOKIE", ""), self._cookie)
        return self._services.sessions.key(found) if found else None

    def _read(
        self, environ: WSGIEnvironment, start_response: StartResponse, session: str, path: str
    ) -> Iterable[bytes]:
        started = time.perf_counter()
        given = environ.get("HTTP_IF_NONE_MATCH", "")
        match = _ETAG.fullmatch(given) if given else None
        if given and match is None:
            return self._app(environ, start_response)
        scheme = self._scheme(environ)
        variant = self._variant(environ) if path == self._page else "list"
        if scheme is None or variant is None:
            return self._app(environ, start_response)
        field = f"{self._version}:{scheme}:{variant}"
        try:
            admitted = self._services.admission.read(session, field, match[1] if match else "")
        except (RedisError, DependencyDown) as error:
            environ[FAILED] = error
            return self._app(environ, start_response)
        environ[ADMITTED] = admitted
        if admitted.wait_ms or admitted.user_id is None:
            return self._app(environ, start_response)
        if not admitted.answer:
            if not admitted.lease:
                return self._app(environ, start_response)
            return self._fill(environ, start_response, admitted, field, match[1] if match else None, started)
        size = HEAD + int(admitted.answer[HEAD - 4 : HEAD])
        kept, of_a_304, key = _head(admitted.answer[HEAD:size])
        request_id = _request_id(environ)
        if admitted.same:
            status, body, headers = "304 NOT MODIFIED", b"", [*of_a_304, ("X-Request-Id", request_id)]
        else:
            status, body, headers = "200 OK", admitted.answer[size:], [*kept, ("X-Request-Id", request_id)]
            if key:
                body = body.replace(key, secrets.token_urlsafe().encode(), 1)
        if not key:
            headers.append(("Date", _date(int(time.time()))))  # Flask's answers to conditional requests have one
        self._done("GET", path, int(status[:3]), started, request_id, hit=True)
        start_response(status, headers)
        return [body]

    def _fill(
        self,
        environ: WSGIEnvironment,
        start_response: StartResponse,
        admitted: Admitted,
        field: str,
        etag: str | None,
        started: float,
    ) -> Iterable[bytes]:
        """Let Flask answer in full, keep that, and give the client what it asked for."""
        path, user_id = environ["PATH_INFO"], admitted.user_id or ""
        steady: list[float] = []
        key = secrets.token_urlsafe()
        environ.pop("HTTP_IF_NONE_MATCH", None)
        environ |= {FORM_KEY: key, ANSWERED: steady.append, logs.LOGGED_LATER: True}
        status, headers, body = self._ask(environ)
        request_id = dict(headers).get("X-Request-Id", "")
        if status == "200 OK":
            seconds = min([_LONGEST_SECONDS, *steady])
            try:
                if seconds >= 1 and self._may_keep(headers, user_id):
                    self._keep(admitted, field, int(time.time() + seconds), headers, body, key)
            except (RedisError, DependencyDown, SQLAlchemyError) as error:
                # The answer is there; that it cannot be kept is no reason to withhold it.
                _log.warning("answer not kept", extra={"error": type(error).__name__})
            if etag is not None and _etag_of(headers) == etag:
                status, body = "304 NOT MODIFIED", b""
                headers = [header for header in headers if header[0] not in _NOT_OF_A_304]
        self._done("GET", path, int(status[:3]), started, request_id, hit=False)
        start_response(status, headers)
        return [body]

    def _ask(self, environ: WSGIEnvironment) -> tuple[str, Headers, bytes]:
        answer: list[tuple[str, Headers]] = []

        def start(status: str, headers: Headers, _error: object = None) -> Any:  # noqa: ANN401 - WSGI's `write`
            answer.append((status, headers))

        parts = self._app(environ, start)
        try:
            body = b"".join(parts)
        finally:
            close = getattr(parts, "close", None)
            if close is not None:
                close()
        status, headers = answer[-1]
        return status, headers, body

    def _may_keep(self, headers: Headers, user_id: str) -> bool:
        if any(name == "Set-Cookie" for name, _ in headers):
            return False
        with self._flask.app_context():
            return not self._services.tokens.any(user_id)

    def _keep(self, admitted: Admitted, field: str, until: int, headers: Headers, body: bytes, key: str) -> None:
        keys = body.count(key.encode())
        if keys > 1:
            return
        kept = [header for header in headers if header[0] not in _OF_THE_MOMENT]
        head = orjson.dumps([kept, key if keys else ""])
        value = f"{until:010}{_etag_of(headers) or _NO_ETAG}{len(head):04}".encode() + head + body
        self._services.cache.store(admitted.user_id or "", admitted.lease, field, value)

    def _write(self, environ: WSGIEnvironment, start_response: StartResponse, session: str) -> Iterable[bytes]:
        started = time.perf_counter()
        scheme, text = self._scheme(environ), self._text(environ)
        if scheme is None or text is None:
            return self._app(environ, start_response)
        service = self._services
        fence = new_fence()
        try:
            admitted = service.admission.write(session, fence)
            environ[ADMITTED] = admitted
            if admitted.wait_ms or admitted.user_id is None:
                return self._app(environ, start_response)
            try:
                memo = service.memos.add_quickly(self._engine(), admitted.user_id, text)
            finally:
                service.cache.changed(admitted.user_id, fence)
        except UnknownUser:
            return self._app(environ, start_response)
        except Exception as error:  # noqa: BLE001 - whatever it is, Flask answers and logs it
            environ[FAILED] = error
            return self._app(environ, start_response)
        body = dump(memo)
        request_id = _request_id(environ)
        headers = [("Content-Type", _JSON), ("Content-Length", str(len(body))), ("X-Request-Id", request_id)]
        headers += security.headers_for(secure=scheme == "https")
        headers.append(("Cache-Control", "no-store"))
        self._done("POST", self._list, 200, started, request_id)
        start_response("200 OK", headers)
        return [body]

    def _text(self, environ: WSGIEnvironment) -> str | None:
        """The text of a new memo; None when Flask is to look at the request, whose body it can then read again."""
        length = environ.get("CONTENT_LENGTH", "")
        if (
            environ.get("CONTENT_TYPE") != _JSON
            or not length.isdigit()
            or int(length) > self._longest_body
            or environ.get("HTTP_SEC_FETCH_SITE", "same-origin") not in security.OWN_SITE
            or ("HTTP_ORIGIN" in environ and "HTTP_SEC_FETCH_SITE" not in environ)
        ):
            return None
        data = environ["wsgi.input"].read(int(length))
        environ["wsgi.input"] = io.BytesIO(data)
        try:
            body = orjson.loads(data)
            text = body.get("text") if isinstance(body, dict) else None
            if not isinstance(text, str):
                return None
            self._services.memos.check(text)
        except (orjson.JSONDecodeError, InvalidText):
            return None
        return text

    def _engine(self) -> Any:  # noqa: ANN401 - Flask-SQLAlchemy's
        with self._flask.app_context():
            return self._flask.extensions["sqlalchemy"].engine

    def _scheme(self, environ: WSGIEnvironment) -> str | None:
        """As ProxyFix finds it for Flask, which stands behind this; None when Flask is to find out."""
        told: str = self._behind_proxy and environ.get("HTTP_X_FORWARDED_PROTO") or environ["wsgi.url_scheme"]
        return told if told in _SCHEMES else None

    def _variant(self, environ: WSGIEnvironment) -> str | None:
        """What the page's looks depend on; None when Flask is to find out."""
        cookies = environ.get("HTTP_COOKIE", "")
        language = theme = None
        if self._language in cookies:
            language = _cookie(cookies, self._language)
            if language is None:
                return None
        if self._theme in cookies:
            theme = _cookie(cookies, self._theme)
            if theme is None:
                return None
        accepted = environ.get("HTTP_ACCEPT_LANGUAGE", "")
        return f"{preferences.language_for(language, accepted)}:{preferences.theme_for(theme)}"

    def _done(
        self, method: str, path: str, status: int, started: float, request_id: str, *, hit: bool | None = None
    ) -> None:
        """A request was answered here: the one place where that is counted and logged.

        A kept answer has no line of its own: nginx's access log has the same id, status and time, and a second line
        would cost a fifth of the whole request (measured: bench/service.py).
        """
        seconds = time.perf_counter() - started
        metrics.request_done(method, path, status, seconds)
        if hit is not None:
            metrics.cache_asked("page" if path == self._page else "list", hit)
        if not hit:
            logs.log_request(method, path, status, seconds, request_id)


def _cookie(header: str, name: str) -> str | None:
    """A cookie's value, None when it is not there once, or anything about the header is unusual."""
    if '"' in header or header.count(f"{name}=") != 1:
        return None
    for part in header.split("; "):
        if part.startswith(f"{name}="):
            return part[len(name) + 1 :]
    return None


@lru_cache(maxsize=512)
def _head(head: bytes) -> tuple[Headers, Headers, bytes]:
    """The headers that were kept, those of them that a 304 has, and the form's key in the body."""
    found, key = orjson.loads(head)
    headers = [(name, value) for name, value in found]
    return headers, [header for header in headers if header[0] not in _NOT_OF_A_304], key.encode()


def _etag_of(headers: Headers) -> str | None:
    match = _ETAG.fullmatch(dict(headers).get("ETag", ""))
    return match[1] if match else None


@lru_cache(maxsize=2)
def _date(second: int) -> str:
    return http_date(second)


def _request_id(environ: WSGIEnvironment) -> str:
    return logs.request_id_for(environ.get("HTTP_X_AMZN_TRACE_ID") or environ.get("HTTP_X_REQUEST_ID"))


def _fingerprint(*settings: str) -> str:
    digest = hashlib.sha256("\0".join(settings).encode())
    for path in sorted(Path(__file__).parent.rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
