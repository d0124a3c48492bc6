"""The page in a real browser: with its script and without, in both languages, in both themes, by keyboard."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pymysql
import pytest
from flask import Flask
from playwright.sync_api import Browser, Page, Route, expect

pytestmark = pytest.mark.web


@pytest.fixture
def open_page(chromium: Browser, url: str) -> Iterator[Callable[..., Page]]:
    """Opens the page in a browser of its own; a script's error, or one of the policy's, fails the test."""
    contexts, errors = [], []

    def open_(
        *,
        scripts: bool = True,
        width: int = 1280,
        locale: str = "en-US",
        scheme: Literal["light", "dark"] = "light",
    ) -> Page:
        context = chromium.new_context(
            java_script_enabled=scripts,
            viewport={"width": width, "height": 720},
            locale=locale,
            color_scheme=scheme,
        )
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
    page.wait_for_load_state()  # the script listens from then on, and what is typed before is lost on it


def save(page: Page, text: str) -> None:
    page.fill("#text", text)
    page.click("form#new button")


def write_many(app: Flask, sql: pymysql.cursors.Cursor, number: int) -> None:
    sql.execute("SELECT id FROM users")
    ((user_id,),) = sql.fetchall()
    with app.app_context():
        for one in range(number):
            app.extensions["memo"].memos.add(user_id, f"memo {one}")


LANGUAGES = {
    "en-US": {
        "logged-out": "You are logged out.",
        "deleted": "Memo deleted.",
        "back": "The memo is back.",
        "over": "session is over",
        "elsewhere": "changed elsewhere",
        "older": "Older memos",
        "imported": "1 memo was imported.",
        "now": "just now",
        "hours": "3 hours ago",
        "date": "May .*2024",
        "refused": "did not allow",
    },
    "ko-KR": {
        "logged-out": "로그아웃했습니다.",
        "deleted": "메모를 삭제했습니다.",
        "back": "메모를 되살렸습니다.",
        "over": "로그인이 만료되어",
        "elsewhere": "다른 곳에서 이 메모를 고쳤습니다",
        "older": "이전 메모",
        "imported": "메모 1개를 가져왔습니다.",
        "now": "방금",
        "hours": "3시간 전",
        "date": "2024년 5월",
        "refused": "동의하지 않아",
    },
}
BOTH_WAYS = pytest.mark.parametrize("scripts", [True, False], ids=["script", "no-script"])
BOTH_LANGUAGES = pytest.mark.parametrize("locale", list(LANGUAGES))


@BOTH_WAYS
@BOTH_LANGUAGES
@pytest.mark.parametrize("width", [320, 1280])
def test_write_read_edit_pin_delete_undo_log_out(
    open_page: Callable[..., Page], scripts: bool, width: int, locale: str
) -> None:
    words = LANGUAGES[locale]
    page = open_page(scripts=scripts, width=width, locale=locale)
    log_in(page)
    memos, message = page.locator("#memos .text"), page.locator("#message")
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

    page.locator(".memo .pin button").nth(1).click()
    expect(memos.first).to_have_text(text)
    expect(page.locator(".memo .mark")).to_have_count(1)
    page.locator(".memo .pin button").first.click()
    expect(memos.first).to_have_text("newer")

    page.locator("a.edit").first.click()
    field = page.locator(".edit-form textarea")
    expect(field).to_have_value("newer")
    field.fill("newest")
    page.locator(".edit-form .primary").click()
    expect(memos.first).to_have_text("newest")
    expect(page.locator(".memo .edited")).to_have_count(1)

    page.locator(".memo .delete button").first.click()
    expect(message).to_contain_text(words["deleted"])
    expect(memos).to_have_count(1)
    page.locator("#message button").click()
    expect(message).to_contain_text(words["back"])
    expect(memos.first).to_have_text("newest")
    page.locator(".memo .delete button").first.click()
    expect(memos).to_have_count(1)
    page.reload()
    assert memos.all_text_contents() == [text]
    page.click("#logout")
    expect(message).to_have_text(words["logged-out"])
    expect(page.locator("#login")).to_be_visible()


def test_another_person_sees_nothing_of_it(open_page: Callable[..., Page]) -> None:
    first, second = open_page(), open_page()
    log_in(first, "김민준")
    save(first, "mine")
    expect(first.locator("#memos .text")).to_have_text(["mine"])
    log_in(second, "이서연")
    expect(second.locator("#empty")).to_be_visible()


@BOTH_LANGUAGES
def test_errors_are_shown_and_the_text_outlives_a_lost_connection(
    open_page: Callable[..., Page], url: str, locale: str
) -> None:
    korean = locale.startswith("ko")
    page = open_page(locale=locale)
    log_in(page)
    message, field = page.locator("#message"), page.locator("#text")
    save(page, " ")
    expect(message).to_contain_text("글을 적어 주세요" if korean else "needs some text")
    page.route(re.compile("/memo/memos$"), lambda route: route.abort())
    save(page, "kept")
    expect(message).to_contain_text("연결할 수 없습니다" if korean else "cannot be reached")
    page.goto(url)
    expect(field).to_have_value("kept")
    page.unroute(re.compile("/memo/memos$"))
    page.click("form#new button")
    expect(page.locator("#memos .text")).to_have_text(["kept"])
    page.goto(url)
    expect(field).to_have_value("")


def test_an_answer_that_got_lost_makes_no_second_memo(open_page: Callable[..., Page], url: str) -> None:
    page = open_page()
    log_in(page)

    def store_and_cut(route: Route) -> None:
        route.fetch(max_redirects=0)
        route.abort()

    page.route(re.compile("/memo/memos$"), store_and_cut)
    save(page, "once")
    expect(page.locator("#message")).to_contain_text("cannot be reached")
    page.unroute(re.compile("/memo/memos$"))
    page.goto(url)
    page.click("form#new button")
    expect(page.locator("#memos .text")).to_have_text(["once"])
    page.reload()
    expect(page.locator("#memos .text")).to_have_text(["once"])


@BOTH_LANGUAGES
def test_the_text_outlives_the_session(open_page: Callable[..., Page], locale: str) -> None:
    page = open_page(locale=locale)
    log_in(page)
    save(page, "other")
    expect(page.locator("#memos .text")).to_have_count(1)
    page.locator("a.edit").click()
    page.locator(".edit-form textarea").fill("half edited")
    page.context.clear_cookies(name="userId")
    save(page, "kept")
    expect(page.locator("#message")).to_contain_text(LANGUAGES[locale]["over"])
    page.locator("#message a").click()
    page.click("[name=person][value=minjun]")  # by name it could be the one whom this page still greets
    expect(page.locator("#text")).to_have_value("kept")
    page.locator("a.edit").click()
    expect(page.locator(".edit-form textarea")).to_have_value("half edited")
    page.click("#logout")  # asks first: the dialog is accepted
    expect(page.locator("#login")).to_be_visible()
    log_in(page)
    expect(page.locator("#text")).to_have_value("")


def test_another_person_in_the_same_browser_gets_no_draft(open_page: Callable[..., Page]) -> None:
    page = open_page()
    log_in(page, "김민준")
    page.fill("#text", "private")
    page.context.clear_cookies(name="userId")
    page.reload()
    log_in(page, "이서연")
    expect(page.locator("#text")).to_have_value("")


@BOTH_LANGUAGES
def test_the_text_comes_back_without_a_script(open_page: Callable[..., Page], locale: str) -> None:
    page = open_page(scripts=False, locale=locale)
    log_in(page)
    page.fill("#text", "쓰던 글")
    page.context.clear_cookies(name="userId")
    page.click("form#new button")
    expect(page.locator("#text")).to_have_value("쓰던 글")
    with page.context.expect_page() as opened:
        page.click("#login")
    log_in_tab = opened.value
    log_in_tab.get_by_text("김민준").click()
    expect(log_in_tab.locator("#greeting")).to_be_visible()
    page.click(".new .primary")
    expect(page.locator("#memos .text")).to_have_text(["쓰던 글"])


@BOTH_WAYS
@BOTH_LANGUAGES
def test_a_memo_changed_elsewhere_is_not_overwritten(
    open_page: Callable[..., Page], url: str, scripts: bool, locale: str
) -> None:
    page = open_page(scripts=scripts, locale=locale)
    log_in(page)
    save(page, "one")
    page.locator("a.edit").click()
    other = page.context.new_page()
    other.goto(url)
    other.locator("a.edit").click()
    other.locator(".edit-form textarea").fill("elsewhere")
    other.locator(".edit-form .primary").click()
    expect(other.locator("#memos .text")).to_have_text(["elsewhere"])
    page.locator(".edit-form textarea").fill("mine")
    page.locator(".edit-form .primary").click()
    expect(page.locator("#message")).to_contain_text(LANGUAGES[locale]["elsewhere"])
    expect(page.locator(".theirs")).to_have_text("elsewhere")
    expect(page.locator(".edit-form textarea")).to_have_value("mine")
    page.locator(".edit-form .primary").click()
    expect(page.locator("#memos .text")).to_have_text(["mine"])


@BOTH_WAYS
@BOTH_LANGUAGES
def test_older_memos(
    open_page: Callable[..., Page], app: Flask, sql: pymysql.cursors.Cursor, scripts: bool, locale: str
) -> None:
    page = open_page(scripts=scripts, locale=locale)
    log_in(page)
    write_many(app, sql, 120)
    page.reload()
    memos = page.locator("#memos .text")
    expected = [f"memo {number}" for number in reversed(range(120))]
    if scripts:
        # Loaded as one scrolls, without a click: each part when the end of the one before comes in sight.
        while (known := memos.count()) < 120:
            page.mouse.wheel(0, 20000)
            expect(memos).not_to_have_count(known)
        assert memos.all_text_contents() == expected
    else:
        found = memos.all_text_contents()
        expect(page.locator("#older")).to_have_text(LANGUAGES[locale]["older"])
        while page.locator("#older").count():
            with page.expect_navigation():
                page.click("#older")
            found += memos.all_text_contents()
        assert found == expected
    expect(page.locator("#older")).to_have_count(0)


@BOTH_WAYS
@BOTH_LANGUAGES
def test_search(open_page: Callable[..., Page], scripts: bool, locale: str) -> None:
    page = open_page(scripts=scripts, locale=locale)
    log_in(page)
    memos = page.locator("#memos .text")
    for number, text in enumerate(("팀회의는 열 시", "우유와 빵", "회의록 정리"), 1):
        save(page, text)
        expect(memos).to_have_count(number)
    if scripts:
        page.focus("#main")
        page.keyboard.press("/")
        expect(page.locator("#q")).to_be_focused()
    page.fill("#q", "회의")
    page.press("#q", "Enter")
    expect(memos).to_have_text(["회의록 정리", "팀회의는 열 시"])
    expect(page.locator("mark")).to_have_text(["회의", "회의"])
    page.locator(".memo .delete button").first.click()
    expect(memos).to_have_text(["팀회의는 열 시"])
    page.locator("#message button").click()
    expect(memos).to_have_text(["회의록 정리", "팀회의는 열 시"])
    page.fill("#q", "없는말")
    page.press("#q", "Enter")
    expect(page.locator("#empty")).to_have_text(
        "이 낱말이 있는 메모가 없습니다." if locale == "ko-KR" else "No memo has these words."
    )
    page.fill("#q", "a")
    page.press("#q", "Enter")
    expect(page.locator("#message")).to_contain_text("두 글자" if locale == "ko-KR" else "two letters")


@BOTH_LANGUAGES
def test_by_keyboard(open_page: Callable[..., Page], locale: str) -> None:
    page = open_page(locale=locale)
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    log_in(page)
    page.focus("#text")
    page.keyboard.type("typed")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#memos .text")).to_have_text(["typed"])
    expect(page.locator("#text")).to_be_focused()
    page.locator("a.edit").press("Enter")
    field = page.locator(".edit-form textarea")
    expect(field).to_be_focused()
    field.press("Escape")
    expect(page.locator("a.edit")).to_be_focused()
    page.locator(".delete button").press("Enter")
    expect(page.locator("#message button")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#memos .text")).to_have_text(["typed"])
    expect(page.locator("a.edit")).to_be_focused()


@BOTH_WAYS
@BOTH_LANGUAGES
def test_export_and_import(open_page: Callable[..., Page], scripts: bool, locale: str, tmp_path: Path) -> None:
    page = open_page(scripts=scripts, locale=locale)
    log_in(page)
    save(page, "하나")
    expect(page.locator("#memos .text")).to_have_count(1)
    page.click("#account")
    with page.expect_download() as download:
        page.locator("a[download]").first.click()
    path = tmp_path / "memos.json"
    download.value.save_as(path)
    assert [memo["text"] for memo in json.loads(path.read_text(encoding="utf-8"))["memos"]] == ["하나"]
    path.write_text(path.read_text(encoding="utf-8").replace("하나", "둘"), encoding="utf-8")
    page.set_input_files("#file", path)
    page.locator("form[enctype] button").click()
    expect(page.locator("#message")).to_contain_text(LANGUAGES[locale]["imported"])
    with page.expect_download() as download:
        page.locator("a[download]").nth(1).click()
    download.value.save_as(tmp_path / "memos.md")
    assert "\n\n둘\n" in (tmp_path / "memos.md").read_text(encoding="utf-8")
    page.click(".brand")
    expect(page.locator("#memos .text")).to_have_text(["둘", "하나"])


@BOTH_WAYS
@BOTH_LANGUAGES
def test_account(open_page: Callable[..., Page], scripts: bool, locale: str) -> None:
    page, other = open_page(scripts=scripts, locale=locale), open_page()
    for each in (page, other):
        log_in(each, "최하은")
    save(page, "gone soon")
    expect(page.locator("#memos .text")).to_have_count(1)
    page.click("#account")
    page.click("#end-others")
    expect(page.locator("#end-others")).to_have_count(0)
    other.reload()
    expect(other.locator("#login")).to_be_visible()
    page.fill("#token-name", "backup")
    page.press("#token-name", "Enter")
    assert page.locator("#token").input_value().startswith("memo_")
    page.goto(page.url)
    expect(page.locator("#token")).to_have_count(0)
    page.locator("#tokens button").click()
    expect(page.locator("#tokens li")).to_have_count(0)
    page.fill("#confirm", "no")
    with page.expect_navigation():  # a message, that the token was revoked, is there already
        page.press("#confirm", "Enter")
    expect(page.locator("#message")).to_be_visible()
    page.fill("#confirm", "delete")
    page.press("#confirm", "Enter")
    expect(page.locator("#login")).to_be_visible()
    log_in(page, "최하은")
    expect(page.locator("#empty")).to_be_visible()


@BOTH_WAYS
def test_language_and_colours_are_chosen_and_kept(open_page: Callable[..., Page], scripts: bool) -> None:
    page = open_page(scripts=scripts)
    background = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(background) if scripts else None
    page.locator("[name=language][value=ko]").click()
    expect(page.locator("html")).to_have_attribute("lang", "ko")
    page.locator("[name=theme][value=dark]").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    log_in(page)
    expect(page.locator("#greeting")).to_contain_text("안녕하세요")
    expect(page.locator("[name=theme][value=dark]")).to_have_attribute("aria-pressed", "true")
    if scripts:
        assert page.evaluate(background) != before


@BOTH_WAYS
@BOTH_LANGUAGES
def test_times_are_told_for_people(
    open_page: Callable[..., Page], app: Flask, sql: pymysql.cursors.Cursor, scripts: bool, locale: str
) -> None:
    words = LANGUAGES[locale]
    page = open_page(scripts=scripts, locale=locale)
    log_in(page)
    save(page, "now")
    time = page.locator("#memos time").first
    expect(time).to_have_text(words["now"])
    sql.execute("UPDATE memos SET created_at = created_at - INTERVAL 3 HOUR, updated_at = created_at")
    app.extensions["memo"].cache.forget_all()
    page.reload()
    expect(time).to_have_text(words["hours"])
    sql.execute("UPDATE memos SET created_at = '2024-05-01 20:30:00', updated_at = created_at")
    app.extensions["memo"].cache.forget_all()
    page.reload()
    expect(time).to_have_text(re.compile(words["date"]))
    expect(time).to_have_attribute("datetime", "2024-05-01T20:30:00+00:00")


@BOTH_WAYS
@BOTH_LANGUAGES
def test_refusal_is_explained(open_page: Callable[..., Page], scripts: bool, locale: str) -> None:
    page = open_page(scripts=scripts, locale=locale)
    page.click("#login")
    page.locator("[value=refuse]").click()
    expect(page.locator("#message")).to_contain_text(LANGUAGES[locale]["refused"])
