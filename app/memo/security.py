"""Requests from other sites are refused, and every answer tells the browser what it may do with it."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flask import Flask, Response, abort, request

from memo.services import services

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
OWN_SITE = frozenset({"same-origin", "none"})

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; object-src 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    # Not "no-referrer": browsers then send `Origin: null` with our own forms.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

_TRANSPORT = "max-age=31536000; includeSubDomains"
"""A year of https only, for the names below this one too (RFC 6797)."""

_SECURE_HEADERS = [("Cross-Origin-Opener-Policy", "same-origin"), ("Strict-Transport-Security", _TRANSPORT)]

HEADERS = frozenset(name for name, _ in (*_HEADERS.items(), *_SECURE_HEADERS))
"""Their names."""


def init_app(app: Flask) -> None:
    """Guard an application."""
    app.before_request(_refuse_other_sites)
    app.after_request(_add_headers)


def _refuse_other_sites() -> None:
    """Stop forged requests: a browser says where a state-changing request comes from (OWASP, CSRF prevention).

    `Sec-Fetch-Site` is sent to trustworthy origins only (Fetch Metadata), `Origin` always with a POST or DELETE.
    A client that sends neither is no browser and holds no cookie it did not mean to send.
    """
    if request.method in _SAFE_METHODS:
        return
    if "Sec-Fetch-Site" in request.headers:
        if came_from_another_site():
            abort(403, "This request came from another site.")
        return
    origin = request.headers.get("Origin")
    if origin is None:
        return
    # The host alone is compared: which scheme the browser used is known to the outermost proxy only.
    host = _host(origin)
    if host is None or host not in (request.host, _host(services().settings.public_url)):
        abort(403, "This request came from another site.")


class ConnectionScheme:
    """Undoes that uWSGI takes the scheme from X-Forwarded-Proto and X-Forwarded-SSL, whoever sends them.

    nginx tells in REQUEST_SCHEME what its own connection speaks; which proxies before it are believed is for ProxyFix.

    Args:
        app: the application, with ProxyFix around it.
    """

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """One request (PEP 3333)."""
        environ["wsgi.url_scheme"] = environ.get("REQUEST_SCHEME", environ["wsgi.url_scheme"])
        return self._app(environ, start_response)


def came_from_another_site() -> bool:
    """Whether the browser says that another site caused this request; false when it says nothing."""
    return request.headers.get("Sec-Fetch-Site", "none") not in OWN_SITE


def _host(url: str) -> str | None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    default = {"http": 80, "https": 443}.get(parts.scheme)
    if not parts.hostname:
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return host if port in (None, default) else f"{host}:{port}"


def headers_for(*, secure: bool) -> list[tuple[str, str]]:
    """The headers of every answer.

    Args:
        secure: the request came over TLS.
    """
    # Browsers ignore the further ones from an untrustworthy origin, the first with an error on their console.
    return [*_HEADERS.items(), *(_SECURE_HEADERS if secure else [])]


def _add_headers(response: Response) -> Response:
    if response.status_code == HTTPStatus.NOT_MODIFIED:
        return response  # what the client has kept came with them, and goes on having them (RFC 9111, section 4.3.4)
    for name, value in headers_for(secure=request.is_secure):
        response.headers.setdefault(name, value)
    if request.endpoint != "static":
        response.headers.setdefault("Cache-Control", "no-store")
    return response
