"""What a person does and sees, in Debian's Chromium."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from endtoend.people import Person
from endtoend.stack import Stack
from memo_testing.forwarder import Forwarder
from memo_testing.lighthouse import marks
from playwright.sync_api import Dialog, Page, ViewportSize, expect

pytestmark = pytest.mark.e2e

MEMO = "안녕하세요 👋"
PHONE: ViewportSize = {"width": 360, "height": 740}


def log_in(page: Page, url: str, name: str) -> None:
    """Open the page and pick somebody on the provider's."""
    page.goto(url)
    page.locator("#login").click()
    page.get_by_role("button", name=name).click()
    expect(page.locator("#greeting")).to_be_visible()


def count(page: Page, text: str) -> int:
    """How often a memo is on the page."""
    return page.locator("#memos .text").get_by_text(text, exact=True).count()


def test_a_person_writes_a_memo(service: Stack, new_page: Callable[[], Page], artefacts: Path) -> None:
    page = new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.goto(service.url)
    page.screenshot(path=artefacts / "1-logged-out.png")
    page.locator("#login").click()
    expect(page.get_by_role("button", name="이서연")).to_be_visible()
    page.screenshot(path=artefacts / "2-naver-stand-in.png")
    page.get_by_role("button", name="이서연").click()
    expect(page.locator("#greeting")).to_contain_text("이서연")

    # A run on a kept cloud finds the memo of the run before.
    before = count(page, MEMO)
    page.locator("#text").fill(MEMO)
    page.locator("#new button[type=submit]").click()
    expect(page.locator("#memos .text").first).to_have_text(MEMO)
    page.reload()
    expect(page.locator("#memos .text").first).to_have_text(MEMO)
    assert count(page, MEMO) == before + 1
    page.screenshot(path=artefacts / "3-memo.png")

    page.set_viewport_size(PHONE)
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    page.screenshot(path=artefacts / "4-phone.png")

    other = new_page()
    log_in(other, service.url, "박지후")
    assert count(other, MEMO) == 0
    other.screenshot(path=artefacts / "5-another-person.png")

    page.locator("#logout").click()
    expect(page.locator("#login")).to_be_visible()
    page.goto(service.url)
    expect(page.locator("#login")).to_be_visible()
    assert MEMO not in page.content()
    assert problems == []


def test_text_is_never_markup(service: Stack, new_page: Callable[[], Page]) -> None:
    page = new_page()
    shown: list[str] = []

    def note(dialog: Dialog) -> None:
        shown.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", note)
    log_in(page, service.url, "김민준")
    hostile = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    page.locator("#text").fill(hostile)
    page.locator("#new button[type=submit]").click()
    expect(page.locator("#memos .text").first).to_have_text(hostile)
    page.reload()
    expect(page.locator("#memos .text").first).to_have_text(hostile)
    assert page.locator("#memos img").count() == 0
    assert shown == []


def test_works_without_a_script(service: Stack, new_page: Callable[[], Page]) -> None:
    browser = new_page().context.browser
    assert browser is not None
    context = browser.new_context(java_script_enabled=False, locale="ko-KR")
    try:
        page = context.new_page()
        log_in(page, service.url, "최하은")
        page.locator("#text").fill("스크립트 없이")
        page.locator("#new button[type=submit]").click()
        expect(page.locator("#memos .text").first).to_have_text("스크립트 없이")
    finally:
        context.close()


def test_refusing_is_said(service: Stack, new_page: Callable[[], Page], artefacts: Path) -> None:
    page = new_page()
    page.goto(service.url)
    page.locator("#login").click()
    page.locator("button[value=refuse]").click()
    expect(page.locator("#message")).to_be_visible()
    expect(page.locator("#login")).to_be_visible()
    page.screenshot(path=artefacts / "6-refused.png")


def test_a_session_that_ended_elsewhere(service: Stack, new_page: Callable[[], Page]) -> None:
    page = new_page()
    log_in(page, service.url, "김민준")
    page.context.clear_cookies()
    page.locator("#text").fill("너무 늦은 메모")
    page.locator("#new button[type=submit]").click()
    expect(page.locator("#message")).to_be_visible()


GOOD = 95
MANY = 60


def test_lighthouse_finds_it_fast_and_well_made(service: Stack, user: Callable[[str], Person], artefacts: Path) -> None:
    """Through the load balancer, nginx and uWSGI: both the log-in and a list that goes on below."""
    person = user("jihu")
    for number in range(max(0, MANY - len(person.memos()))):
        assert person.write(f"오늘의 메모 {number}: 우유와 빵, 그리고 커피").status_code == 200
    parts = urlsplit(service.url)
    assert parts.hostname
    # From loopback: Lighthouse takes points for an address without TLS, which the service does not serve by itself.
    way = Forwarder(parts.hostname, parts.port or 80)
    try:
        url = f"http://127.0.0.1:{way.port}{parts.path}"
        cookies = {"Cookie": "; ".join(f"{name}={value}" for name, value in person.session.cookies.items())}
        for name, headers in (("login", {}), ("list", cookies)):
            found = marks(url, headers, artefacts, name)
            print(f"\nLighthouse, {name}: {found}")
            assert min(found.values()) >= GOOD, found
    finally:
        way.cut()
