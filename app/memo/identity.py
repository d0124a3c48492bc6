"""Who asks: the cookies that tie a browser to a session, or to a log-in under way."""

from __future__ import annotations

from flask import Response, g, request

from memo.services import services
from memo.sessions import LOGIN_SECONDS, is_token, new_token

LOGIN_COOKIE = "memoLogin"


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
    response.delete_cookie(LOGIN_COOKIE, path=cookie_path())


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
        response.delete_cookie(services().settings.cookie_name, path=cookie_path())


def browser_key() -> str | None:
    """The random key by which a browser is known while it logs in."""
    key = request.cookies.get(LOGIN_COOKIE)
    return key if is_token(key) else None


def remember_browser(response: Response, key: str | None) -> str:
    """Give the browser a key, or let it keep the one it has (two log-in tabs at once are fine)."""
    key = key or new_token()
    _set_cookie(response, LOGIN_COOKIE, key, LOGIN_SECONDS)
    return key


def cookie_path() -> str:
    """The cookies are for this application only, not for what else the host may serve."""
    return services().settings.url_prefix or "/"


def _session_token() -> str | None:
    return request.cookies.get(services().settings.cookie_name)


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
