"""What templates can do: times for people, found words, browsers by name."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from math import ceil, inf
from typing import Any

from flask import Flask, g, request
from flask_babel import format_date, format_timedelta, gettext
from markupsafe import Markup, escape

from memo import preferences

_RELATIVE = timedelta(days=7)
"""Younger than this is told as "3 hours ago", which is true in every time zone; older by its date."""

_JUST_NOW = timedelta(seconds=45)
_UNITS = (7 * 86400, 86400, 3600, 60, 1)
_THRESHOLD = 0.85

_BROWSERS = (("Edg", "Edge"), ("Whale", "Whale"), ("SamsungBrowser", "Samsung Internet"), ("OPR", "Opera"))
_MORE_BROWSERS = (("Firefox", "Firefox"), ("Chrome", "Chrome"), ("Safari", "Safari"))
_SYSTEMS = (("iPhone", "iPhone"), ("iPad", "iPad"), ("Android", "Android"), ("Windows", "Windows"))
_MORE_SYSTEMS = (("Mac OS X", "macOS"), ("CrOS", "ChromeOS"), ("Linux", "Linux"))

_RETURN_TO = {"account": "account.show", "forms.deleted": "forms.deleted"}
"""The page that a changed preference leads back to, by the endpoint or blueprint that was asked; else the first one."""


def init_app(app: Flask) -> None:
    """Give them to an application's templates."""
    app.add_template_filter(ago)
    app.add_template_filter(highlight)
    app.add_template_filter(device)
    app.context_processor(_context)


def ago(moment: datetime) -> str:
    """A time for people, in the request's language."""
    age = datetime.now(UTC) - moment
    g.steady_seconds = min(g.get("steady_seconds", inf), steady_seconds(age))
    return words_for(age, moment)


def words_for(age: timedelta, moment: datetime) -> str:
    """What a moment is called at an age."""
    if age < _JUST_NOW:
        return gettext("just now")
    if age < _RELATIVE:
        return format_timedelta(-age, add_direction=True)
    return format_date(moment, "long")


def steady_seconds(age: timedelta) -> float:
    """How long `words_for` an age stay what they are, at least.

    Babel rounds up to whole seconds, takes the largest unit of which there is 0.85 (its `threshold`), and rounds to
    whole ones of it.
    """
    seconds = age.total_seconds()
    if age >= _RELATIVE:
        return inf
    if age < _JUST_NOW:
        return _JUST_NOW.total_seconds() - seconds
    unit = next(unit for unit in _UNITS if seconds + 1 >= _THRESHOLD * unit)
    ends = [_THRESHOLD * larger for larger in _UNITS if larger > unit]
    ends += [(ceil(seconds / unit - 0.5) + 0.5) * unit, _RELATIVE.total_seconds()]
    return max(0.0, min(end for end in ends if end >= seconds) - seconds - 1)


def highlight(text: str, query: str | None) -> Markup:
    """A memo's text as markup, with a query's words marked as far as they are spelled like in the query."""
    words = sorted((re.escape(word) for word in (query or "").split()), key=len, reverse=True)
    if not words:
        return escape(text)
    parts = re.split(f"({'|'.join(words)})", text, flags=re.IGNORECASE)
    return Markup("").join(
        Markup("<mark>{}</mark>").format(part) if number % 2 else escape(part) for number, part in enumerate(parts)
    )


def device(agent: str) -> str:
    """A browser by name, from its User-Agent: enough to tell a person's own devices from each other."""
    browser = next((name for key, name in (*_BROWSERS, *_MORE_BROWSERS) if key in agent), None)
    system = next((name for key, name in (*_SYSTEMS, *_MORE_SYSTEMS) if key in agent), None)
    if browser and system:
        return gettext("%(browser)s on %(system)s", browser=browser, system=system)
    return browser or system or gettext("Unknown browser")


def _context() -> dict[str, Any]:
    return {
        "language": preferences.language(),
        "languages": preferences.LANGUAGES,
        "theme": preferences.theme(),
        "themes": preferences.THEMES,
        "return_to": _RETURN_TO.get(request.endpoint or "") or _RETURN_TO.get(request.blueprint or "", "pages.index"),
    }
