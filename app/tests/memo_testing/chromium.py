"""Debian's Chromium, for the browser tests and for the checkers that drive one themselves."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, expect, sync_playwright

EXPECTED_MILLISECONDS = 30_000
"""How long what is expected of a page is waited for: as long as Playwright waits for what it clicks. Its own 5 s are
little on a machine that does something else too."""

ARGUMENTS = (
    "--no-sandbox",  # Chromium's sandbox needs an unprivileged user, and CI runs as root
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


def program() -> str:
    """Where it is."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    assert path, "there is no Chromium; install it with: apt-get install chromium"
    return path


@contextmanager
def launched() -> Iterator[Browser]:
    """One that is running, driven by Playwright."""
    expect.set_options(timeout=EXPECTED_MILLISECONDS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program(), args=list(ARGUMENTS))
        yield browser
        browser.close()
