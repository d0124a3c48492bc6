"""The account's page: export and import, sessions, tokens, and the end of an account."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import orjson
import pymysql
import pytest
from flask import Flask
from memo.account import CONFIRMATION
from memo.portability import FORMAT, MOST_BYTES, VERSION
from memo_testing.browser import JSON, Browser, body, notice_of
from werkzeug.test import TestResponse


def give(browser: Browser, data: bytes) -> TestResponse:
    """Import a file."""
    return browser.post("/import", data={"file": (io.BytesIO(data), "memos.json")}, content_type="multipart/form-data")


def exported(*memos: object) -> bytes:
    return orjson.dumps({"format": FORMAT, "version": VERSION, "memos": memos})


def one(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON value
    return {"text": "하나", "created_at": "2024-05-01T01:02:03.000004Z", **changes}


def listed(browser: Browser) -> list[dict[str, Any]]:
    memos: list[dict[str, Any]] = body(browser.get("/memo", headers=JSON))["memos"]
    return memos


def test_export_and_import(browser: Browser, new_browser: Callable[[], Browser]) -> None:
    browser.log_in("minjun")
    for text in ("첫째 👋\n둘째 줄", "second"):
        browser.post("/memo", json={"text": text})
    browser.patch(f"/memo/{listed(browser)[1]['id']}", {"pinned": True})
    response = browser.get("/export?format=json")
    assert re.search(r'attachment; filename="memos-[\d-]+\.json"', response.headers["Content-Disposition"])
    data = response.data
    assert body(response)["memos"] == listed(browser)
    assert "Nothing" not in (again := give(browser, data).text)
    assert "0 memos were imported. 2 were here already." in again

    other = new_browser()
    other.log_in("seoyeon")
    assert "2 memos were imported." in give(other, data).text
    keys = ("text", "pinned", "created_at", "updated_at")
    assert [[memo[key] for key in keys] for memo in listed(other)] == [
        [memo[key] for key in keys] for memo in listed(browser)
    ]
    assert [memo["text"] for memo in body(other.get("/memo?q=둘째", headers=JSON))["memos"]] == ["첫째 👋\n둘째 줄"]


def test_export_for_people(browser: Browser) -> None:
    browser.log_in()
    browser.post("/memo", json={"text": "하나"})
    response = browser.get("/export?format=markdown")
    assert response.mimetype == "text/markdown"
    assert re.fullmatch(r"## \d{4}-\d\d-\d\d \d\d:\d\d UTC\n\n하나\n\n---\n\n", response.text)


def test_an_export_is_read_in_parts(browser: Browser, app: Flask, sql: pymysql.cursors.Cursor) -> None:
    browser.log_in()
    sql.execute("SELECT id FROM users")
    ((user_id,),) = sql.fetchall()
    sql.executemany(
        "INSERT INTO memos (user_id, text, created_at, updated_at) VALUES (%s, %s, NOW(6), NOW(6))",
        [(user_id, f"memo {number}") for number in range(1203)],
    )
    memos = body(browser.get("/export"))["memos"]
    assert [memo["text"] for memo in memos] == [f"memo {number}" for number in reversed(range(1203))]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"{", "not JSON"),
        (b"[]", "not exported here"),
        (b'{"format": "other", "memos": []}', "not exported here"),
        (exported(one(), 5), "no. 2 in the file has no text"),
        (exported(one(text=" ")), "no. 1 in the file is empty"),
        (exported(one(text="x" * 201)), "at most 200 characters"),
        (exported(one(created_at="yesterday")), "no valid time"),
        (exported(one(created_at="2999-01-01T00:00:00Z")), "no valid time"),
        (exported({"text": "a"}), "no valid time"),
        (exported(*[one()] * 20_001), "at most 20000 memos"),
    ],
)
def test_files_that_will_not_do(browser: Browser, data: bytes, words: str) -> None:
    browser.log_in()
    response = give(browser, data)
    assert response.status_code == 400
    assert words in response.text
    assert "Nothing was imported." in response.text
    assert browser.texts() == []


def test_a_file_that_is_too_large(browser: Browser) -> None:
    browser.log_in()
    response = give(browser, b" " * (MOST_BYTES + 5000))
    assert response.status_code == 413
    assert "too large" in response.text
    assert browser.post("/import", data={}).status_code == 400


def test_sessions_are_listed_and_ended(browser: Browser, new_browser: Callable[[], Browser]) -> None:
    browser.log_in("minjun")
    browser.post("/account/sessions/end")  # those of other tests
    others = [new_browser() for _ in range(3)]
    for each in others:
        each.log_in("minjun")
    stranger = new_browser()
    stranger.log_in("seoyeon")
    page = browser.get("/account").text
    names = re.findall(r'name="session" value="(\w+)"', page)
    assert len(names) == 3
    assert page.count(">this browser<") == 1
    assert not any(each.session_key in page for each in (*others, browser) if each.session_key)
    assert notice_of(stranger.post("/account/sessions/end", data={"session": names[0]})) == "no-such-session"
    assert notice_of(browser.post("/account/sessions/end", data={"session": names[0]})) == "session-ended"
    alive = [each.get("/memo", headers=JSON).status_code for each in others]
    assert sorted(alive) == [200, 200, 401]
    assert notice_of(browser.post("/account/sessions/end", data={"session": "x"})) == "no-such-session"
    assert notice_of(browser.post("/account/sessions/end")) == "sessions-ended"
    assert [each.get("/memo", headers=JSON).status_code for each in others] == [401] * 3
    assert browser.get("/memo", headers=JSON).status_code == 200
    assert stranger.get("/memo", headers=JSON).status_code == 200


def test_a_token_is_shown_once_and_revoked(browser: Browser, app: Flask) -> None:
    browser.log_in()
    page = browser.post("/account/tokens", data={"name": "<backup>"}).text
    found = re.search(r'value="(memo_[\w-]+)"', page)
    assert found
    assert "&lt;backup&gt;" in page
    headers = {**JSON, "Authorization": f"Bearer {found[1]}"}
    assert app.test_client().get("/memo/memo", headers=headers).status_code == 200
    page = browser.get("/account").text
    assert found[1] not in page
    revoke = re.search(r"/account/tokens/(\d+)/revoke", page)
    assert revoke
    assert notice_of(browser.post(revoke[0])) == "token-revoked"
    assert notice_of(browser.post(revoke[0])) == "no-such-token"
    assert app.test_client().get("/memo/memo", headers=headers).status_code == 401
    assert browser.post("/account/tokens", data={"name": " "}).status_code == 400
    for number in range(20):
        browser.post("/account/tokens", data={"name": str(number)})
    assert browser.post("/account/tokens", data={"name": "one more"}).status_code == 409


def test_the_end_of_an_account(
    browser: Browser, new_browser: Callable[[], Browser], sql: pymysql.cursors.Cursor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memo.account._DELETING_SECONDS", 600)  # in one go, however busy the machine is
    other, stranger = new_browser(), new_browser()
    for each, name in ((browser, "minjun"), (other, "minjun"), (stranger, "seoyeon")):
        each.log_in(name)
    stranger.post("/memo", json={"text": "다른 사람"})
    for number in range(230):
        browser.post("/memo", json={"text": f"memo {number}"})
    browser.delete(f"/memo/{listed(browser)[0]['id']}")
    browser.post("/account/tokens", data={"name": "n"})
    sql.execute("SELECT COUNT(*) FROM memo_grams")
    for word in ("", "yes"):
        response = browser.post("/account/delete", data={"confirm": word})
        assert response.status_code == 400
        assert "Nothing was deleted" in response.text
    assert (
        notice_of(browser.post("/account/delete", data={"confirm": f" {CONFIRMATION.title()} "})) == "account-deleted"
    )
    for each in (browser, other):
        assert each.get("/memo", headers=JSON).status_code == 401
    assert stranger.texts() == ["다른 사람"]
    for query, left in (
        ("SELECT COUNT(*) FROM users", 1),
        ("SELECT COUNT(*) FROM memos", 1),
        ("SELECT COUNT(*) FROM deleted_memos", 0),
        ("SELECT COUNT(*) FROM api_tokens", 0),
    ):
        sql.execute(query)
        assert sql.fetchone() == (left,)
    browser.log_in("minjun")
    assert browser.texts() == []


def test_a_large_account_is_deleted_in_parts(
    browser: Browser, sql: pymysql.cursors.Cursor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memo.account._DELETING_SECONDS", 0)
    browser.log_in()
    for number in range(150):
        browser.post("/memo", json={"text": f"memo {number}"})
    notices = [notice_of(browser.post("/account/delete", data={"confirm": CONFIRMATION})) for _ in range(3)]
    assert notices == ["account-going", "account-going", "account-deleted"]
    sql.execute("SELECT COUNT(*) FROM users")
    assert sql.fetchone() == (0,)
