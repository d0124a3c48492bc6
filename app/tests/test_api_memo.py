"""One memo: read, changed, pinned; kept by clients, changed by two at once, made once however often it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pymysql
import pytest
from memo_testing.browser import JSON, Browser, assert_problem, body
from memo_testing.threads import at_once


@pytest.fixture
def memo(browser: Browser) -> dict[str, Any]:
    """A memo of the person in `browser`."""
    browser.log_in()
    return body(browser.post("/memo", json={"text": "우유 사기"}))


def test_read_one(browser: Browser, memo: dict[str, Any]) -> None:
    assert body(browser.get(f"/memo/{memo['id']}", headers=JSON)) == memo
    assert memo["pinned"] is False


@pytest.mark.parametrize("memo_id", ["0", "x", "-1", "99999999999999999999", "9223372036854775807", "１"])
def test_no_such_memo(browser: Browser, memo: dict[str, Any], memo_id: str) -> None:
    assert_problem(browser.get(f"/memo/{memo_id}", headers=JSON), 404)
    assert_problem(browser.patch(f"/memo/{memo_id}", {"text": "x"}), 404)
    assert_problem(browser.delete(f"/memo/{memo_id}"), 404)


def test_somebody_elses_memo_is_no_memo(memo: dict[str, Any], new_browser: Callable[[], Browser]) -> None:
    other = new_browser()
    other.log_in("seoyeon")
    assert_problem(other.get(f"/memo/{memo['id']}", headers=JSON), 404)
    assert_problem(other.patch(f"/memo/{memo['id']}", {"text": "stolen"}), 404)


def test_logged_out(new_browser: Callable[[], Browser], memo: dict[str, Any]) -> None:
    stranger = new_browser()
    assert_problem(stranger.get(f"/memo/{memo['id']}", headers=JSON), 401)
    assert stranger.patch(f"/memo/{memo['id']}", {"text": "x"}).status_code == 302


def test_change_the_text(browser: Browser, memo: dict[str, Any]) -> None:
    changed = body(browser.patch(f"/memo/{memo['id']}", {"text": "두부 사기"}))
    assert changed["text"] == "두부 사기"
    assert changed["created_at"] == memo["created_at"]
    assert changed["updated_at"] > memo["updated_at"]
    assert body(browser.get(f"/memo/{memo['id']}", headers=JSON)) == changed


def test_pin_and_unpin(browser: Browser, memo: dict[str, Any]) -> None:
    browser.post("/memo", json={"text": "newer"})
    pinned = body(browser.patch(f"/memo/{memo['id']}", {"pinned": True}))
    assert pinned == {**memo, "pinned": True}
    assert body(browser.get("/memo?pinned=true", headers=JSON))["memos"] == [pinned]
    assert [one["text"] for one in body(browser.get("/memo?pinned=false", headers=JSON))["memos"]] == ["newer"]
    # Old clients see the order they know.
    assert browser.texts() == ["newer", "우유 사기"]
    assert body(browser.patch(f"/memo/{memo['id']}", {"pinned": False})) == memo


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({}, 400),
        ([], 400),
        ({"text": 1}, 400),
        ({"text": None}, 400),
        ({"text": " "}, 400),
        ({"text": "가" * 201}, 413),
        ({"pinned": "true"}, 400),
        ({"pinned": 1}, 400),
        ({"pinned": None}, 400),
        ({"text": "x", "id": 5}, 400),
    ],
)
def test_bad_changes_change_nothing(browser: Browser, memo: dict[str, Any], change: object, status: int) -> None:
    assert_problem(browser.patch(f"/memo/{memo['id']}", change), status)
    assert body(browser.get(f"/memo/{memo['id']}", headers=JSON)) == memo


@pytest.mark.parametrize("query", ["pinned=1", "pinned=", "pinned=TRUE"])
def test_bad_flag(browser: Browser, memo: dict[str, Any], query: str) -> None:
    assert_problem(browser.get(f"/memo?{query}", headers=JSON), 400)


def test_other_media_types_are_refused(browser: Browser, memo: dict[str, Any]) -> None:
    response = browser.client.patch(
        f"{browser.prefix}/memo/{memo['id']}", data='{"text": "x"}', content_type="text/plain"
    )
    assert_problem(response, 415)
    assert "application/merge-patch+json" in response.headers["Accept-Patch"]
    response = browser.client.patch(
        f"{browser.prefix}/memo/{memo['id']}", data='{"text": "x"}', content_type="application/merge-patch+json"
    )
    assert response.status_code == 200


@pytest.mark.parametrize("path", ["/memo", "/memo/{id}"])
def test_unchanged_is_304_and_changed_is_not(browser: Browser, memo: dict[str, Any], path: str) -> None:
    path = path.format(**memo)
    first = browser.get(path, headers=JSON)
    tag = first.headers["ETag"]
    assert first.headers["Cache-Control"] == "private, no-cache"
    assert "Cookie" in first.headers["Vary"]
    again = browser.get(path, headers={**JSON, "If-None-Match": tag})
    assert again.status_code == 304
    assert again.data == b""
    assert again.headers["ETag"] == tag
    browser.patch(f"/memo/{memo['id']}", {"pinned": True})
    changed = browser.get(path, headers={**JSON, "If-None-Match": tag})
    assert changed.status_code == 200
    assert changed.headers["ETag"] != tag


def test_304_is_not_for_somebody_who_logged_out(browser: Browser, memo: dict[str, Any]) -> None:
    tag = browser.get("/memo", headers=JSON).headers["ETag"]
    browser.post("/logout")
    assert browser.get("/memo", headers={**JSON, "If-None-Match": tag}).status_code == 401


def test_if_match_keeps_two_from_undoing_each_other(browser: Browser, memo: dict[str, Any]) -> None:
    path = f"/memo/{memo['id']}"
    seen = browser.get(path, headers=JSON).headers["ETag"]
    first = browser.patch(path, {"text": "first"}, headers={"If-Match": seen})
    assert first.status_code == 200
    assert_problem(browser.patch(path, {"text": "second"}, headers={"If-Match": seen}), 412)
    assert_problem(browser.delete(path, headers={"If-Match": seen}), 412)
    assert body(browser.get(path, headers=JSON))["text"] == "first"
    assert browser.delete(path, headers={"If-Match": first.headers["ETag"]}).status_code == 204


def test_of_two_changes_at_once_with_the_same_tag_one_wins(
    memo: dict[str, Any], new_browser: Callable[[], Browser]
) -> None:
    browsers = [new_browser() for _ in range(4)]
    for one in browsers:
        one.log_in()
    path = f"/memo/{memo['id']}"
    seen = browsers[0].get(path, headers=JSON).headers["ETag"]

    def change(index: int) -> int:
        return browsers[index].patch(path, {"text": f"number {index}"}, headers={"If-Match": seen}).status_code

    assert sorted(at_once(len(browsers), change)) == [200, 412, 412, 412]


def test_a_repeated_request_makes_one_memo(browser: Browser) -> None:
    browser.log_in()
    headers = {"Idempotency-Key": "3f1c-1"}
    first = browser.post("/memo", json={"text": "한 번만"}, headers=headers)
    again = browser.post("/memo", json={"text": "한 번만"}, headers=headers)
    assert (first.status_code, again.status_code) == (200, 200)
    assert body(again) == body(first)
    assert browser.texts() == ["한 번만"]


def test_requests_at_once_under_one_key_make_one_memo(new_browser: Callable[[], Browser]) -> None:
    browsers = [new_browser() for _ in range(4)]
    for one in browsers:
        one.log_in()

    def create(index: int) -> int:
        response = browsers[index].post("/memo", json={"text": "race"}, headers={"Idempotency-Key": "race"})
        assert response.status_code == 200, response.text
        return int(body(response)["id"])

    assert len(set(at_once(len(browsers), create))) == 1
    assert browsers[0].texts() == ["race"]


def test_a_key_is_for_one_text_and_one_user(browser: Browser, new_browser: Callable[[], Browser]) -> None:
    browser.log_in()
    headers = {"Idempotency-Key": "mine"}
    browser.post("/memo", json={"text": "a"}, headers=headers)
    assert_problem(browser.post("/memo", json={"text": "b"}, headers=headers), 422)
    other = new_browser()
    other.log_in("seoyeon")
    assert body(other.post("/memo", json={"text": "b"}, headers=headers))["text"] == "b"
    assert browser.texts() == ["a"]


def test_a_repeated_request_does_not_bring_a_deleted_memo_back(browser: Browser) -> None:
    browser.log_in()
    headers = {"Idempotency-Key": "gone"}
    memo = body(browser.post("/memo", json={"text": "a"}, headers=headers))
    browser.delete(f"/memo/{memo['id']}")
    assert_problem(browser.post("/memo", json={"text": "a"}, headers=headers), 410)
    assert browser.texts() == []


def test_a_key_is_forgotten_after_a_day(browser: Browser, sql: pymysql.cursors.Cursor) -> None:
    browser.log_in()
    headers = {"Idempotency-Key": "daily"}
    browser.post("/memo", json={"text": "yesterday"}, headers=headers)
    yesterday = datetime.now(UTC) - timedelta(hours=25)
    sql.execute("UPDATE idempotency_keys SET created_at = %s", (yesterday.replace(tzinfo=None),))
    assert browser.post("/memo", json={"text": "today"}, headers=headers).status_code == 200
    assert browser.texts() == ["today", "yesterday"]
    sql.execute("SELECT COUNT(*) FROM idempotency_keys")
    assert sql.fetchone() == (1,)


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 129, "한"])
def test_bad_keys(browser: Browser, key: str) -> None:
    browser.log_in()
    response = browser.post("/memo", json={"text": "a"}, headers={"Idempotency-Key": key})
    assert_problem(response, 400)
    assert browser.texts() == []
