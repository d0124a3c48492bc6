"""The memo service: a page and a small JSON API for people's own memos, behind Naver Login."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from memo.config import Settings


def create_app(settings: Settings | None = None) -> Flask:
    """Make the WSGI application; `flask --app memo …` finds it by this name.

    Args:
        settings: the configuration; read from the environment when left out.

    Returns:
        The application, not yet connected to anything.

    Raises:
        memo.config.ConfigurationError: a setting is missing or cannot work.
    """
    # Imported here so that `python -m memo.bootstrap`, which runs in every boot, does not load Flask.
    from memo.application import build

    return build(settings)
