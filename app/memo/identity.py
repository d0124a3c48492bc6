"""Who asks: the cookies that tie a browser to a session, or to a log-in under way."""

from __future__ import annotations

from flask import Response, g, request

from memo.services import services
from memo.sessions import LOGIN_SECONDS, is_token, new_token

_LOGIN_COOKIE = "memoLogin"
_HOST_ONLY = "__Host-"
"""Browsers keep a cookie of such a name only with Secure, Path=/ and no Domain (RFC 6265bis, section 4.1.3.2), so that
no other host under the same domain can set it."""


def current_user_id() -> str | None:
    """The id of the user who asks, or None: no cookie, or a session that is over."""
    if "user_id" not in g:
        g.user_id = services().sessions.user(_session_token())
    user_id: str | None = g.user_id
    return user_id


class BearerRefused(PermissionError):  # noqa: N818 - it is no fault of the program
    """An Authorization header was sent, and stands for nobody."""


def token_user_id() -> str | None:
    """The id of the user whose personal API token was sent, or None: no Authorization header.

    Raises:
        BearerRefused: the header is of another kind, or its token is not known.
    """
    if "Authorization" not in request.headers:
        return None
    if "token_user_id" not in g:
        given = request.authorization
        bearer = given is not None and given.type == "bearer" and given.token
        g.token_user_id = services().tokens.user(bearer) if bearer else None
    user_id: str | None = g.token_user_id
    if user_id is None:
        raise BearerRefused
    return user_id


def session_key() -> str | None:
    """Under what Redis would have the session of this request."""
    return services().sessions.key(_session_token())


def begin_session(response: Response, user_id: str) -> None:
    """Log the browser in with a new key; the key it had is worth nothing afterwards."""
    service = services()
    service.sessions.end(_session_token())
    token = service.sessions.create(user_id, request.user_agent.string)
    _set_cookie(response, service.settings.cookie_name, token, service.settings.session_absolute_seconds)
    _delete_cookie(response, cookie_name(_LOGIN_COOKIE))


def end_session(response: Response) -> None:
    """Log the browser out, here and in Redis."""
    services().sessions.end(_session_token())
    g.user_id = None
    forget_cookie(response)


def session_name() -> str:
    """What the session of this request is called in the list of the user's sessions."""
    return services().sessions.name(_session_token())


def forget_cookie(response: Response) -> None:
    """Take a session's cookie away if the browser sent one."""
    if services().settings.cookie_name in request.cookies:
        _delete_cookie(response, services().settings.cookie_name)


def browser_key() -> str | None:
    """The random key by which a browser is known while it logs in."""
    key = request.cookies.get(cookie_name(_LOGIN_COOKIE))
    return key if is_token(key) else None


def remember_browser(response: Response, key: str | None) -> str:
    """Give the browser a key, or let it keep the one it has (two log-in tabs at once are fine)."""
    key = key or new_token()
    _set_cookie(response, cookie_name(_LOGIN_COOKIE), key, LOGIN_SECONDS)
    return key


def cookie_path() -> str:
    """The cookies are for this application only, not for what else the host may serve; `__Host-` ones cannot be."""
    settings = services().settings
    return "/" if settings.cookie_name.startswith(_HOST_ONLY) else settings.url_prefix or "/"


def cookie_name(name: str) -> str:
    """What another cookie of ours is called: it begins with `__Host-` when the session's does."""
    return named_like(services().settings.cookie_name, name)


def named_like(session_cookie: str, name: str) -> str:
    """The same, for the name of the session's cookie."""
    return f"{_HOST_ONLY}{name}" if session_cookie.startswith(_HOST_ONLY) else name


def _session_token() -> str | None:
    return request.cookies.get(services().settings.cookie_name)


def _delete_cookie(response: Response, name: str) -> None:
    _set_cookie(response, name, "", 0)  # with the same attributes, or a `__Host-` cookie would stay


def _set_cookie(response: Response, name: str, value: str, max_age: int) -> None:
    secure = services().settings.cookie_secure
    response.set_cookie(
        name,
        value,
        max_age=max_age,
        path=cookie_path(),
        httponly=True,
        samesite="Lax",  # Strict would lose the cookie on the provider's redirect back to us
        secure=request.is_secure if secure is None else secure,
    )
