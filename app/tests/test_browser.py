"""The page in a real browser: its script, and without."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Callable, Iterator

import pymysql
import pytest
from flask import Flask
from playwright.sync_api import Browser, Page, expect, sync_playwright
from werkzeug.serving import make_server

CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    assert path, "Chromium is missing: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def url(app: Flask) -> Iterator[str]:
    """The application on a free port."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/memo/"
    server.shutdown()
    thread.join()


@pytest.fixture
def open_page(chromium: Browser, url: str) -> Iterator[Callable[..., Page]]:
    """Opens the page in a browser of its own; a script's error, or one of the policy's, fails the test."""
    contexts, errors = [], []

    def open_(*, scripts: bool = True, width: int = 1280) -> Page:
        context = chromium.new_context(java_script_enabled=scripts, viewport={"width": width, "height": 720})
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda line: errors.append(line.text) if "Content Security" in line.text else None)
        page.on("dialog", lambda dialog: dialog.accept())
        page.goto(url)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert errors == []


def log_in(page: Page, name: str = "김민준") -> None:
    page.click("#login")
    page.get_by_text(name).click()
    expect(page.locator("#greeting")).to_contain_text(name)


def save(page: Page, text: str) -> None:
    page.fill("#text", text)
    page.click("form#new button")


@pytest.mark.parametrize("scripts", [True, False])
@pytest.mark.parametrize("width", [320, 1280])
def test_write_read_delete_log_out(open_page: Callable[..., Page], scripts: bool, width: int) -> None:
    page = open_page(scripts=scripts, width=width)
    log_in(page)
    memos = page.locator("#memos .text")
    text = "안녕하세요 👋 <img src=x onerror=alert(1)>\n둘째 줄" + "길" * 100
    save(page, text)
    expect(memos).to_have_count(1)
    save(page, "newer")
    expect(memos).to_have_count(2)
    assert memos.all_text_contents() == ["newer", text]
    expect(page.locator("#text")).to_have_value("")
    expect(page.locator("#memos img")).to_have_count(0)
    page.reload()
    assert memos.all_text_contents() == ["newer", text]
    if scripts:
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.locator("#memos button").first.click()
    expect(memos).to_have_count(1)
    page.reload()
    assert memos.all_text_contents() == [text]
    page.click("#logout")
    expect(page.locator("#message")).to_have_text("You are logged out.")
    expect(page.locator("#login")).to_be_visible()


def test_another_person_sees_nothing_of_it(open_page: Callable[..., Page]) -> None:
    first, second = open_page(), open_page()
    log_in(first, "김민준")
    save(first, "mine")
    expect(first.locator("#memos .text")).to_have_text(["mine"])
    log_in(second, "이서연")
    expect(second.locator("#empty")).to_be_visible()


def test_errors_are_shown_and_the_text_is_kept(open_page: Callable[..., Page], url: str) -> None:
    page = open_page()
    log_in(page)
    message = page.locator("#message")
    save(page, " ")
    expect(message).to_contain_text("needs some text")
    page.route(re.compile("/memo/memo$"), lambda route: route.abort())
    save(page, "kept")
    expect(message).to_contain_text("cannot be reached")
    page.unroute(re.compile("/memo/memo$"))
    page.context.clear_cookies()
    save(page, "kept")
    expect(message).to_contain_text("session is over")
    expect(page.locator("#text")).to_have_value("kept")


def test_older_memos_are_added_below(open_page: Callable[..., Page], app: Flask, sql: pymysql.cursors.Cursor) -> None:
    page = open_page()
    log_in(page)
    sql.execute("SELECT id FROM users")
    ((user_id,),) = sql.fetchall()
    with app.app_context():
        for number in range(120):
            app.extensions["memo"].memos.add(user_id, f"memo {number}")
    page.reload()
    memos = page.locator("#memos .text")
    expect(memos).to_have_count(50)
    page.click("#older")
    expect(memos).to_have_count(100)
    page.click("#older")
    expect(memos).to_have_count(120)
    expect(page.locator("#older")).to_have_count(0)
    assert memos.all_text_contents() == [f"memo {number}" for number in reversed(range(120))]


def test_refusal_is_explained(open_page: Callable[..., Page]) -> None:
    page = open_page()
    page.click("#login")
    page.locator("[value=refuse]").click()
    expect(page.locator("#message")).to_contain_text("did not allow")
