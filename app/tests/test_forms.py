"""What is done to memos on the page: by plain forms, and by the script, which gets the part that changed."""

from __future__ import annotations

import html
import re
from collections.abc import Callable

import pymysql
import pytest
from flask import Flask
from memo_testing.browser import Browser, body, notice_of
from werkzeug.test import TestResponse

SCRIPT = {"X-Memo-Fragment": "1", "Accept": "text/html"}


def write(browser: Browser, text: str) -> int:
    """Store a memo; its id."""
    return int(body(browser.post("/memo", json={"text": text}))["id"])


def follow(browser: Browser, response: TestResponse) -> str:
    assert response.status_code == 303
    return browser.client.get(response.location).text


def seen(page: str) -> str:
    found = re.search(r'name="seen" value="([^"]+)"', page)
    assert found
    return html.unescape(found[1])


def test_edit(browser: Browser) -> None:
    browser.log_in()
    memo_id = write(browser, "전")
    page = browser.get(f"/memos/{memo_id}/edit").text
    assert "\n전</textarea>" in page
    response = browser.post(f"/memos/{memo_id}?q=전", data={"text": "후\r\n둘", "seen": seen(page)})
    assert notice_of(response) == "changed"
    assert "q=" in response.location
    assert browser.texts() == ["후\n둘"]


def test_an_edit_does_not_overwrite_what_was_changed_elsewhere(browser: Browser) -> None:
    browser.log_in()
    memo_id = write(browser, "one")
    page = browser.get(f"/memos/{memo_id}/edit").text
    browser.patch(f"/memo/{memo_id}", {"text": "elsewhere"})
    response = browser.post(f"/memos/{memo_id}", data={"text": "mine", "seen": seen(page)})
    assert response.status_code == 409
    assert "\nmine</textarea>" in response.text
    assert ">elsewhere</blockquote>" in response.text
    assert browser.texts() == ["elsewhere"]
    again = browser.post(f"/memos/{memo_id}", data={"text": "mine", "seen": seen(response.text)})
    assert notice_of(again) == "changed"
    assert browser.texts() == ["mine"]
    # The same text once more, with the old form: the second try after a lost answer.
    assert notice_of(browser.post(f"/memos/{memo_id}", data={"text": "mine", "seen": seen(page)})) == "changed"


@pytest.mark.parametrize(("text", "status"), [(" ", 400), ("x" * 201, 413)])
def test_an_edit_that_will_not_do_comes_back(browser: Browser, text: str, status: int) -> None:
    browser.log_in()
    memo_id = write(browser, "one")
    response = browser.post(f"/memos/{memo_id}", data={"text": text})
    assert response.status_code == status
    assert f"\n{text}</textarea>" in response.text
    assert browser.texts() == ["one"]


def test_pinned_memos_come_first(browser: Browser) -> None:
    browser.log_in()
    first = write(browser, "first")
    write(browser, "second")
    assert notice_of(browser.post(f"/memos/{first}/pin", data={"pinned": "1"})) == "pinned"
    page = browser.page()
    assert page.index("first</p>") < page.index("second</p>")
    assert browser.texts() == ["second", "first"]  # the API's order is that of old clients
    assert notice_of(browser.post(f"/memos/{first}/pin", data={"pinned": "0"})) == "unpinned"
    page = browser.page()
    assert page.index("second</p>") < page.index("first</p>")


@pytest.mark.parametrize("pins", [0, 1, 49, 50, 51, 100])
def test_every_memo_is_on_one_page(browser: Browser, app: Flask, sql: pymysql.cursors.Cursor, pins: int) -> None:
    browser.log_in()
    sql.execute("SELECT id FROM users")
    ((user_id,),) = sql.fetchall()
    with app.app_context():
        store = app.extensions["memo"].memos
        for number in range(102):
            memo = store.add(user_id, f"memo {number}")
            if number < pins:
                store.change(user_id, memo.id, pinned=True)
    found: list[str] = []
    page = browser.page()
    for _ in range(4):
        found += re.findall(r">memo (\d+)</p>", page)
        link = re.search(r'id="older"[^>]*href="([^"]+)"', page)
        if link is None:
            break
        page = browser.client.get(html.unescape(link[1])).text
    expected = [*reversed(range(pins)), *reversed(range(pins, 102))]
    assert [int(number) for number in found] == expected


def test_a_deletion_can_be_undone(browser: Browser, sql: pymysql.cursors.Cursor) -> None:
    browser.log_in()
    memo_id = write(browser, "지웠다가 되살릴 메모")
    browser.patch(f"/memo/{memo_id}", {"pinned": True})
    before = body(browser.get(f"/memo/{memo_id}"))
    page = follow(browser, browser.post(f"/memos/{memo_id}/delete"))
    assert "Memo deleted." in page
    assert f'action="/memo/memos/{memo_id}/restore"' in page
    assert browser.texts() == []
    assert "지웠다가" in browser.get("/deleted").text
    for _ in range(2):  # once more does no harm
        assert notice_of(browser.post(f"/memos/{memo_id}/restore")) == "restored"
    assert body(browser.get(f"/memo/{memo_id}")) == before
    assert "지웠다가" not in browser.get("/deleted").text
    assert [memo["id"] for memo in body(browser.get("/memo?q=되살릴"))["memos"]] == [memo_id]
    sql.execute("SELECT COUNT(*) FROM deleted_memos")
    assert sql.fetchone() == (0,)


def test_restore_by_the_api(browser: Browser, new_browser: Callable[[], Browser]) -> None:
    browser.log_in()
    memo_id = write(browser, "one")
    browser.delete(f"/memo/{memo_id}")
    other = new_browser()
    other.log_in("seoyeon")
    assert other.post(f"/memo/{memo_id}/restore").status_code == 404
    assert other.get("/deleted").text.count("one") == browser.get("/account").text.count("no such") == 0
    assert body(browser.post(f"/memo/{memo_id}/restore"))["text"] == "one"
    assert browser.post("/memo/x/restore").status_code == 404


def test_what_was_deleted_long_ago_is_gone(browser: Browser, sql: pymysql.cursors.Cursor) -> None:
    browser.log_in()
    old, new = write(browser, "old"), write(browser, "new")
    browser.delete(f"/memo/{old}")
    sql.execute("UPDATE deleted_memos SET deleted_at = deleted_at - INTERVAL 31 DAY")
    assert "old</p>" not in browser.get("/deleted").text
    browser.delete(f"/memo/{new}")
    assert notice_of(browser.post(f"/memos/{old}/restore")) == "no-such-memo"
    sql.execute("SELECT id FROM deleted_memos")
    assert sql.fetchall() == ((new,),)


def test_the_same_form_twice_makes_one_memo(browser: Browser) -> None:
    browser.log_in()
    key = re.search(r'name="key" value="([^"]+)"', browser.page())
    assert key
    for text in ("a", "a", "b"):  # a double click; then "back" and another text
        assert browser.post("/memos", data={"text": text, "key": key[1]}).status_code == 303
    assert browser.texts() == ["b", "a"]


def test_the_script_gets_what_changed(browser: Browser) -> None:
    browser.log_in()
    created = browser.post("/memos", data={"text": "<b>하나</b>"}, headers=SCRIPT)
    assert created.status_code == 200
    assert "<html" not in created.text
    assert "&lt;b&gt;하나&lt;/b&gt;</p>" in created.text
    memo_id = int(re.findall(r'data-id="(\d+)"', created.text)[0])
    pinned = browser.post(f"/memos/{memo_id}/pin", data={"pinned": "1"}, headers=SCRIPT)
    assert 'data-pinned="1"' in pinned.text
    deleted = browser.post(f"/memos/{memo_id}/delete", headers=SCRIPT)
    assert f"/memos/{memo_id}/restore" in deleted.text
    assert 'class="memo' not in deleted.text
    again = browser.post(f"/memos/{memo_id}/delete", headers=SCRIPT)
    assert again.status_code == 404
    assert "not there any more" in again.text
    blank = browser.post("/memos", data={"text": " "}, headers=SCRIPT)
    assert blank.status_code == 400
    assert "needs some text" in blank.text
    browser.post("/logout")
    over = browser.post("/memos", data={"text": "a"}, headers=SCRIPT)
    assert over.status_code == 401
    assert 'href="/memo/login"' in over.text


@pytest.mark.parametrize("path", ["/memos", "/memos/1", "/import", "/account/tokens", "/account/delete"])
def test_the_address_of_an_answer_can_be_opened(browser: Browser, path: str) -> None:
    """A browser shows it after a form came back with a message."""
    browser.log_in()
    assert browser.get(path).status_code == 303
