"""Memos are found by their text: Korean, parts of words, those another version wrote, and only the caller's."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pymysql
import pytest
from flask import Flask
from memo import grams, search
from memo.memos import MemoStore
from memo_testing.browser import JSON, Browser, assert_problem, body

TEXTS = [
    "팀회의는 화요일 10시",
    "책 읽기: The Left Hand of DARKNESS",
    "영수증 2024-11-512345 👋",
    "ＡＢＣ 전각, café au lait",
    "memo 100% _under_ \\ back",
]


@pytest.fixture
def store(app: Flask) -> Iterator[MemoStore]:
    with app.app_context():
        yield app.extensions["memo"].memos


def found(browser: Browser, query: str, **more: str) -> list[str]:
    response = browser.client.get("/memo/memo", query_string={"q": query, **more}, headers=JSON)
    assert response.status_code == 200, response.text
    return [memo["text"] for memo in body(response)["memos"]]


def user_of(sql: pymysql.cursors.Cursor) -> str:
    sql.execute("SELECT id FROM users")
    ((user_id,),) = sql.fetchall()
    return str(user_id)


@pytest.mark.parametrize(
    ("query", "which"),
    [
        ("회의", 0),
        ("회의는", 0),
        ("화요일 회의", 0),
        ("10시", 0),
        ("책", 1),
        ("darkness", 1),
        ("left dark", 1),
        ("AR", 1),
        ("512345", 2),
        ("12345", 2),
        ("2024-11", 2),
        ("👋", 2),
        ("abc", 3),
        ("전각", 3),
        ("CAFÉ", 3),
        ("100%", 4),
        ("_under_", 4),
        ("\\ back", 4),
    ],
)
def test_what_is_found(browser: Browser, query: str, which: int) -> None:
    browser.log_in()
    for text in TEXTS:
        browser.post("/memo", json={"text": text})
    assert found(browser, query) == [TEXTS[which]]


@pytest.mark.parametrize("query", ["의회", "2024-12", "left hend", "책책", "5123456"])
def test_what_is_not_found(browser: Browser, query: str) -> None:
    browser.log_in()
    for text in TEXTS:
        browser.post("/memo", json={"text": text})
    assert found(browser, query) == []


@pytest.mark.parametrize(
    ("query", "status"), [("", 422), (" ", 422), ("a", 422), ("%", 422), ("!?", 422), ("가" * 101, 400)]
)
def test_what_cannot_be_looked_up(browser: Browser, query: str, status: int) -> None:
    browser.log_in()
    problem = assert_problem(browser.client.get("/memo/memo", query_string={"q": query}, headers=JSON), status)
    assert "Search for" in problem["detail"]


def test_only_the_owners(browser: Browser, new_browser: Callable[[], Browser]) -> None:
    browser.log_in("minjun")
    browser.post("/memo", json={"text": "비밀 이야기"})
    other = new_browser()
    other.log_in("seoyeon")
    assert found(other, "비밀") == []


def test_changes_and_deletions_are_followed(browser: Browser, sql: pymysql.cursors.Cursor) -> None:
    browser.log_in()
    memo_id = body(browser.post("/memo", json={"text": "사과 배"}))["id"]
    browser.patch(f"/memo/{memo_id}", {"text": "배 감"})
    assert found(browser, "사과") == []
    assert found(browser, "감") == ["배 감"]
    user_id = user_of(sql)
    sql.execute("SELECT gram FROM memo_grams WHERE memo_id = %s", [memo_id])
    assert {row[0] for row in sql.fetchall()} == grams.numbers(user_id, "배 감")
    browser.delete(f"/memo/{memo_id}")
    assert found(browser, "감") == []
    sql.execute("SELECT COUNT(*) FROM memo_grams WHERE memo_id = %s", [memo_id])
    assert sql.fetchone() == (0,)


def test_what_the_version_before_wrote_is_found(browser: Browser, sql: pymysql.cursors.Cursor) -> None:
    """It knows neither the index nor the new columns."""
    browser.log_in()
    user_id = user_of(sql)
    sql.execute(
        "INSERT INTO memos (user_id, text, created_at, updated_at) VALUES (%s, '옛날 메모', NOW(6), NOW(6))", [user_id]
    )
    assert found(browser, "옛날") == ["옛날 메모"]
    memo_id = body(browser.post("/memo", json={"text": "새 메모"}))["id"]
    sql.execute(
        "UPDATE memos SET text = '고친 메모', updated_at = updated_at + INTERVAL 1 SECOND WHERE id = %s", [memo_id]
    )
    assert found(browser, "고친") == ["고친 메모"]
    sql.execute("DELETE FROM memos WHERE id = %s", [memo_id])
    assert found(browser, "고친") == []


def test_many_that_are_not_indexed_yet(
    browser: Browser, sql: pymysql.cursors.Cursor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memo.memos._INDEXING_SECONDS", 0)
    browser.log_in()
    user_id = user_of(sql)
    sql.executemany(
        "INSERT INTO memos (user_id, text, created_at, updated_at) VALUES (%s, %s, NOW(6), NOW(6))",
        [(user_id, f"{'처음' if number == 0 else '나중'} {number}") for number in range(450)],
    )
    answers = [body(browser.get("/memo?q=처음", headers=JSON)) for _ in range(3)]
    assert [answer["complete"] for answer in answers] == [False, False, True]
    assert [len(answer["memos"]) for answer in answers] == [0, 0, 1]
    page = browser.client.get("/memo/", query_string={"q": "처음"}).text
    assert "being prepared" not in page
    assert "<mark>처음</mark> 0" in page


def test_paging(browser: Browser, store: MemoStore, sql: pymysql.cursors.Cursor) -> None:
    browser.log_in()
    user_id = user_of(sql)
    for number in range(25):
        store.add(user_id, f"회의 {number}" if number % 2 else f"다른 {number}")
    texts, cursor = [], None
    while True:
        page = store.search(user_id, "회의", limit=5, before=cursor)
        texts += [memo.text for memo in page.memos]
        if page.next is None:
            break
        cursor = page.next
    assert texts == [f"회의 {number}" for number in reversed(range(25)) if number % 2]


def test_a_search_reads_a_bounded_part_and_says_where_it_goes_on(
    browser: Browser, store: MemoStore, sql: pymysql.cursors.Cursor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The word is nowhere, but its pieces are everywhere."""
    monkeypatch.setattr(search, "_READ_AT_ONCE", 5)
    monkeypatch.setattr(search, "_MOST_READ", 10)
    browser.log_in()
    user_id = user_of(sql)
    needle = store.add(user_id, "가나다")
    for _ in range(24):
        store.add(user_id, "가나 나다")
    page, rounds = store.search(user_id, "가나다"), 1
    while page.next is not None:
        assert list(page.memos) == []
        page, rounds = store.search(user_id, "가나다", before=page.next), rounds + 1
    assert [memo.id for memo in page.memos] == [needle.id]
    assert rounds == 3


def test_pinned_only(browser: Browser) -> None:
    browser.log_in()
    memo_id = body(browser.post("/memo", json={"text": "회의 하나"}))["id"]
    browser.post("/memo", json={"text": "회의 둘"})
    browser.patch(f"/memo/{memo_id}", {"pinned": True})
    assert found(browser, "회의", pinned="true") == ["회의 하나"]
    assert found(browser, "회의", pinned="false") == ["회의 둘"]


def test_the_command_indexes_everybodys(app: Flask, browser: Browser, sql: pymysql.cursors.Cursor) -> None:
    browser.log_in()
    user_id = user_of(sql)
    sql.executemany(
        "INSERT INTO memos (user_id, text, created_at, updated_at) VALUES (%s, %s, NOW(6), NOW(6))",
        [(user_id, f"memo {number}") for number in range(450)],
    )
    result = app.test_cli_runner().invoke(args=["index"])
    assert result.exit_code == 0, result.output
    assert "all memos are indexed" in result.output
    sql.execute("SELECT COUNT(*) FROM memos WHERE unindexed = 1")
    assert sql.fetchone() == (0,)


def test_a_memo_that_was_changed_before_it_was_indexed(browser: Browser, sql: pymysql.cursors.Cursor) -> None:
    browser.log_in()
    memo = body(browser.post("/memo", json={"text": "우유 커피"}))
    sql.execute("SELECT unindexed FROM memos")
    assert sql.fetchone() == (1,)
    browser.patch(f"/memo/{memo['id']}", json={"text": "우유 산책"})
    assert found(browser, "우유") == found(browser, "산책") == ["우유 산책"]
    assert found(browser, "커피") == []
    browser.patch(f"/memo/{memo['id']}", json={"text": "커피 산책"})
    assert found(browser, "커피") == found(browser, "산책") == ["커피 산책"]
    assert found(browser, "우유") == []
