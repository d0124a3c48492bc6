"""Requests from other sites are refused, and every answer tells the browser what it may do with it."""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import Flask, Response, abort, request

from memo.services import services

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
OWN_SITE = frozenset({"same-origin", "none"})

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    # Not "no-referrer": browsers then send `Origin: null` with our own forms.
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


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
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        if site not in OWN_SITE:
            abort(403, "This request came from another site.")
        return
    origin = request.headers.get("Origin")
    if origin is None:
        return
    # The host alone is compared: which scheme the browser used is known to the outermost proxy only.
    host = _host(origin)
    if host is None or host not in (request.host, _host(services().settings.public_url)):
        abort(403, "This request came from another site.")


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
    # Browsers ignore the further one from an untrustworthy origin, with an error on their console.
    return [*_HEADERS.items(), *([("Cross-Origin-Opener-Policy", "same-origin")] if secure else [])]


def _add_headers(response: Response) -> Response:
    for name, value in headers_for(secure=request.is_secure):
        response.headers.setdefault(name, value)
    if request.endpoint != "static":
        response.headers.setdefault("Cache-Control", "no-store")
    return response
