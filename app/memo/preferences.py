"""In which language and colours a browser shows the pages: what its user chose here, else what the browser asks for."""

from __future__ import annotations

from functools import lru_cache

from flask import Flask, Response, request
from flask_babel import Babel
from werkzeug.datastructures import LanguageAccept
from werkzeug.http import parse_accept_header

from memo.identity import cookie_name, cookie_path
from memo.services import services

LANGUAGES = {"en": "English", "ko": "한국어"}
"""By the code that browsers send, in the language's own words."""

THEMES = ("auto", "light", "dark")

LANGUAGE_COOKIE = "memoLanguage"
THEME_COOKIE = "memoTheme"
_SECONDS = 365 * 24 * 3600


def init_app(app: Flask) -> None:
    """Speak every language of `translations/`.

    Flask-Babel, because plurals, dates and "3 minutes ago" in Korean are more than a table of sentences. Its compiled
    catalogue is committed beside the readable one: a web host is baked without a build step. A test holds them equal.
    """
    Babel(app, locale_selector=language)


def language() -> str:
    """The code of the language of this request."""
    return language_for(request.cookies.get(cookie_name(LANGUAGE_COOKIE)), request.headers.get("Accept-Language", ""))


@lru_cache(maxsize=256)
def language_for(chosen: str | None, accepted: str) -> str:
    """The code of the language for a cookie's value and what the browser asks for (`Accept-Language`)."""
    if chosen in LANGUAGES:
        return str(chosen)
    return parse_accept_header(accepted, LanguageAccept).best_match(LANGUAGES) or "en"


def theme() -> str:
    """`light`, `dark`, or `auto`: as the browser prefers."""
    return theme_for(request.cookies.get(cookie_name(THEME_COOKIE)))


def theme_for(chosen: str | None) -> str:
    """The same for a cookie's value."""
    return str(chosen) if chosen in THEMES else "auto"


def remember(response: Response, *, language: str | None, theme: str | None) -> None:
    """Keep a choice in the browser; None, and what is no choice, changes nothing."""
    if language in LANGUAGES:
        _set(response, LANGUAGE_COOKIE, str(language))
    if theme in THEMES:
        _set(response, THEME_COOKIE, str(theme))


def _set(response: Response, name: str, value: str) -> None:
    secure = services().settings.cookie_secure
    response.set_cookie(
        cookie_name(name),
        value,
        max_age=_SECONDS,
        path=cookie_path(),
        httponly=True,
        samesite="Lax",
        secure=request.is_secure if secure is None else secure,
    )
