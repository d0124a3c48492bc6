"""The JSON API: every row of the contract, and every bad input."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime

import pymysql
import pytest
from flask import Flask
from memo_testing.browser import JSON, Browser, assert_problem, body
from memo_testing.threads import at_once

from localcloud.naver import NaverStandIn

TEXT = '안녕하세요 👋 <b>굵게</b> & "따옴표"'


def test_create_answers_200_with_the_memo(browser: Browser) -> None:
    browser.log_in()
    before = datetime.now(UTC)
    response = browser.post("/memo", json={"text": TEXT})
    after = datetime.now(UTC)
    assert response.status_code == 200
    assert response.mimetype == "application/json"
    memo = body(response)
    assert memo["text"] == TEXT
    assert isinstance(memo["id"], int)
    assert before <= datetime.fromisoformat(memo["created_at"]) <= after
    assert memo["updated_at"] == memo["created_at"]


def test_korean_and_emoji_go_out_as_utf8(browser: Browser) -> None:
    browser.log_in()
    browser.post("/memo", json={"text": TEXT})
    assert "안녕하세요 👋".encode() in browser.get("/memo", headers=JSON).data


def test_list_is_newest_first_and_only_the_callers(browser: Browser, new_browser: Callable[[], Browser]) -> None:
    browser.log_in("minjun")
    assert browser.texts() == []
    for text in ("하나", "둘", "셋"):
        browser.post("/memo", json={"text": text})
    assert browser.texts() == ["셋", "둘", "하나"]
    other = new_browser()
    other.log_in("seoyeon")
    assert other.texts() == []


def test_what_is_created_is_what_is_listed(browser: Browser) -> None:
    browser.log_in()
    created = body(browser.post("/memo", json={"text": "  앞뒤 공백\n둘째 줄\t"}))
    assert body(browser.get("/memo", headers=JSON))["memos"] == [created]


def test_pages_by_cursor_neither_repeat_nor_skip(browser: Browser) -> None:
    browser.log_in()
    for number in range(7):
        browser.post("/memo", json={"text": str(number)})
    seen: list[str] = []
    part = body(browser.get("/memo?limit=3", headers=JSON))
    browser.post("/memo", json={"text": "added meanwhile"})
    while True:
        seen += [memo["text"] for memo in part["memos"]]
        if part["next"] is None:
            break
        part = body(browser.get(f"/memo?limit=3&cursor={part['next']}", headers=JSON))
    assert seen == ["6", "5", "4", "3", "2", "1", "0"]


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=-1",
        "limit=x",
        "limit=501",
        "limit=",
        "cursor=x",
        "cursor=0",
        "cursor=01",
        "cursor=" + "9" * 19,
    ],
)
def test_bad_paging(browser: Browser, query: str) -> None:
    browser.log_in()
    assert_problem(browser.get(f"/memo?{query}"), 400)


def test_cursor_past_the_end(browser: Browser) -> None:
    browser.log_in()
    assert body(browser.get("/memo?cursor=1", headers=JSON)) == {"memos": [], "next": None}


@pytest.mark.parametrize(
    ("data", "content_type", "status"),
    [
        ("not json", "application/json", 400),
        ("", "application/json", 400),
        (b'{"text": "\xff"}', "application/json", 400),
        (r'{"text": "\ud83d"}', "application/json", 400),
        ("[" * 100_000, "application/json", 413),
        ("[" * 2000, "application/json", 400),
        ("[]", "application/json", 400),
        ('"text"', "application/json", 400),
        ("null", "application/json", 400),
        ("{}", "application/json", 400),
        ('{"text": null}', "application/json", 400),
        ('{"text": 1}', "application/json", 400),
        ('{"text": ["a"]}', "application/json", 400),
        ('{"text": ""}', "application/json", 400),
        ('{"text": " \\n\\t "}', "application/json", 400),
        ('{"text": "\u200b\u3164\ufeff\u00a0\u3000"}'.encode(), "application/json", 400),
        (json.dumps({"text": "가" * 201}), "application/json", 413),
        (json.dumps({"text": "x" * 100_000}), "application/json", 413),
        ('{"text": "a"}', "text/plain", 415),
        ('{"text": "a"}', None, 415),
        ("text=a", "application/x-www-form-urlencoded", 415),
    ],
)
def test_bad_input_stores_nothing(
    browser: Browser,
    sql: pymysql.cursors.Cursor,
    data: str | bytes,
    content_type: str | None,
    status: int,
) -> None:
    browser.log_in()
    problem = assert_problem(browser.post("/memo", data=data, content_type=content_type), status)
    if status == 413:
        assert problem["max_characters"] == 200
        assert "200" in problem["detail"]
    sql.execute("SELECT COUNT(*) FROM memos")
    assert sql.fetchone() == (0,)


@pytest.mark.parametrize("text", ["❤️", "\U000f0000", "\U0001faff", " \u200b. "], ids=ascii)
def test_what_is_seen_is_a_memo(browser: Browser, text: str) -> None:
    """Also a character of one's own font, and one that is younger than this Python's Unicode."""
    browser.log_in()
    assert browser.post("/memo", json={"text": text}).status_code == 200
    assert browser.texts() == [text]


@pytest.mark.parametrize(
    "text", ["👨‍👩‍👧‍👦" * 28, "가" * 200, "a\x00b", "\\", "'; DROP TABLE memos; --", "%s %(x)s :x"]
)
def test_unusual_but_good_texts_round_trip(browser: Browser, text: str) -> None:
    browser.log_in()
    assert browser.post("/memo", json={"text": text}).status_code == 200
    assert browser.texts() == [text]


def test_charset_parameter_is_fine(browser: Browser) -> None:
    browser.log_in()
    response = browser.post("/memo", data=b'{"text": "a", "more": 1}', content_type="application/json; charset=utf-8")
    assert response.status_code == 200


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("key", [None, "A" * 43, "short", "", "minjun", "x" * 3000, "짧은"])
def test_logged_out(browser: Browser, method: str, key: str | None, sql: pymysql.cursors.Cursor) -> None:
    if key is not None:
        browser.client.set_cookie("userId", key, path="/memo")
    for accept in (None, "*/*", "text/html,application/xhtml+xml,*/*;q=0.8", "application/json;q=0.5, text/html"):
        headers = {"Accept": accept} if accept else None
        response = browser.client.open("/memo/memo", method=method, headers=headers, json={"text": "a"})
        assert response.status_code == 302
        assert response.location == "/memo/"
    for accept in ("application/json", "application/problem+json", "application/json, text/html;q=0.5"):
        response = browser.client.open("/memo/memo", method=method, headers={"Accept": accept}, json={"text": "a"})
        assert_problem(response, 401)
        assert "WWW-Authenticate" in response.headers
    sql.execute("SELECT COUNT(*) FROM memos")
    assert sql.fetchone() == (0,)


def test_delete_own(browser: Browser) -> None:
    browser.log_in()
    memo = body(browser.post("/memo", json={"text": "a"}))
    response = browser.delete(f"/memo/{memo['id']}")
    assert response.status_code == 204
    assert browser.texts() == []
    assert_problem(browser.delete(f"/memo/{memo['id']}"), 404)


def test_delete_needs_the_owner(browser: Browser, new_browser: Callable[[], Browser]) -> None:
    browser.log_in("minjun")
    memo = body(browser.post("/memo", json={"text": "mine"}))
    other = new_browser()
    assert other.delete(f"/memo/{memo['id']}").status_code == 302
    other.log_in("seoyeon")
    assert_problem(other.delete(f"/memo/{memo['id']}"), 404)
    assert browser.texts() == ["mine"]


@pytest.mark.parametrize("memo_id", ["0", "-1", "x", "1.5", "9" * 19, "9" * 5000, "%EF%BC%91", "1%00"])
def test_delete_of_what_cannot_be_an_id(browser: Browser, memo_id: str) -> None:
    browser.log_in()
    assert_problem(browser.delete(f"/memo/{memo_id}"), 404)


@pytest.mark.parametrize(("method", "path"), [("PUT", "/memo"), ("DELETE", "/memo"), ("PUT", "/memo/1")])
def test_other_methods(browser: Browser, method: str, path: str) -> None:
    response = browser.client.open(f"/memo{path}", method=method)
    assert_problem(response, 405)
    assert response.headers["Allow"]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_user_whose_row_is_gone_is_logged_out(browser: Browser, sql: pymysql.cursors.Cursor, method: str) -> None:
    browser.log_in()
    sql.execute("DELETE FROM users")
    assert_problem(browser.client.open("/memo/memo", method=method, json={"text": "a"}, headers=JSON), 401)
    assert "Log in with Naver" in browser.page()


def test_ids_differ_by_letter_case(browser: Browser, app: Flask) -> None:
    services = app.extensions["memo"]
    with app.app_context():
        services.users.save("AbC", "one")
        services.users.save("aBc", "two")
        services.users.save("abc ", "three")
        services.memos.add("AbC", "only mine")
        assert services.users.find("AbC") == (True, "one")
        assert services.users.find("abc") == (False, None)
        assert services.memos.page("aBc").memos == []


def test_writes_at_once_are_all_kept(browser: Browser, make_app: Callable[..., Flask], naver: NaverStandIn) -> None:
    browser.log_in()
    key = browser.session_key
    assert key
    # A connection for each thread, as on a web host: waiting for one has an end, and a busy machine would come to it.
    app = make_app(database_pool_size=20)

    def write(number: int) -> int:
        other = Browser(app, naver.url)
        other.set_session_key(key)
        return other.post("/memo", json={"text": f"memo {number}"}).status_code

    assert at_once(20, write) == [200] * 20
    assert sorted(browser.texts()) == sorted(f"memo {number}" for number in range(20))
