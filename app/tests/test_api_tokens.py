"""Personal API tokens: a program's way in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pymysql
import pytest
from flask.testing import FlaskClient
from memo.tokens import MOST
from memo_testing.browser import JSON, Browser, assert_problem, body
from memo_testing.threads import at_once


@pytest.fixture
def made(browser: Browser) -> dict[str, Any]:
    """A token of the person in `browser`, as the answer that made it."""
    browser.log_in()
    response = browser.post("/tokens", json={"name": "backup script"})
    assert response.status_code == 201
    return body(response)


def bearer(token: str) -> dict[str, str]:
    return {**JSON, "Authorization": f"Bearer {token}"}


def test_a_token_reads_and_writes_its_owners_memos(browser: Browser, made: dict[str, Any], client: FlaskClient) -> None:
    browser.post("/memo", json={"text": "from the page"})
    headers = bearer(made["token"])
    created = client.post(f"{browser.prefix}/memo", json={"text": "from a program"}, headers=headers)
    assert created.status_code == 200
    assert "Set-Cookie" not in created.headers
    listed = body(client.get(f"{browser.prefix}/memo", headers=headers))
    assert [memo["text"] for memo in listed["memos"]] == ["from a program", "from the page"]


def test_the_token_is_shown_once_and_stored_as_a_hash(
    browser: Browser, made: dict[str, Any], sql: pymysql.cursors.Cursor
) -> None:
    listed = browser.get("/tokens", headers=JSON)
    assert body(listed)["tokens"] == [{key: made[key] for key in ("id", "name", "created_at", "last_used_at")}]
    assert made["token"] not in listed.text
    sql.execute("SELECT * FROM api_tokens")
    assert made["token"] not in str(sql.fetchall())


def test_last_used_is_shown(browser: Browser, made: dict[str, Any], client: FlaskClient) -> None:
    assert made["last_used_at"] is None
    client.get(f"{browser.prefix}/memo", headers=bearer(made["token"]))
    (token,) = body(browser.get("/tokens", headers=JSON))["tokens"]
    assert token["last_used_at"] >= made["created_at"]


def test_a_revoked_token_is_worth_nothing_at_once(browser: Browser, made: dict[str, Any], client: FlaskClient) -> None:
    assert browser.delete(f"/tokens/{made['id']}").status_code == 204
    response = client.get(f"{browser.prefix}/memo", headers=bearer(made["token"]))
    assert_problem(response, 401)
    assert "invalid_token" in response.headers["WWW-Authenticate"]
    assert_problem(browser.delete(f"/tokens/{made['id']}"), 404)


@pytest.mark.parametrize(
    "header", ["Bearer", "Bearer ", "Bearer memo_x", "Bearer " + "memo_" + "A" * 43, "Basic YTpi", "x"]
)
def test_a_wrong_token_is_refused_even_beside_a_session(browser: Browser, header: str) -> None:
    browser.log_in()
    assert_problem(browser.get("/memo", headers={"Authorization": header}), 401)


def test_a_token_makes_no_tokens(browser: Browser, made: dict[str, Any], client: FlaskClient) -> None:
    headers = bearer(made["token"])
    assert_problem(client.post(f"{browser.prefix}/tokens", json={"name": "more"}, headers=headers), 401)
    assert_problem(client.get(f"{browser.prefix}/tokens", headers=headers), 401)
    assert_problem(client.delete(f"{browser.prefix}/tokens/{made['id']}", headers=headers), 401)


def test_somebody_elses_token_is_no_token(made: dict[str, Any], new_browser: Callable[[], Browser]) -> None:
    other = new_browser()
    other.log_in("seoyeon")
    assert body(other.get("/tokens", headers=JSON)) == {"tokens": []}
    assert_problem(other.delete(f"/tokens/{made['id']}"), 404)


@pytest.mark.parametrize("name", ["❤️ backup", " 백업 ", "👩\u200d💻"])
def test_names(browser: Browser, name: str) -> None:
    browser.log_in()
    response = browser.post("/tokens", json={"name": name})
    assert response.status_code == 201
    assert body(response)["name"] == name.strip()


@pytest.mark.parametrize(
    "sent",
    [{}, {"name": ""}, {"name": " "}, {"name": "x" * 65}, {"name": "a\nb"}, {"name": "a\u202eb"}, {"name": 1}],
)
def test_bad_names(browser: Browser, sent: object) -> None:
    browser.log_in()
    assert_problem(browser.post("/tokens", json=sent, headers=JSON), 400)


def test_a_user_has_a_bounded_number_of_tokens(new_browser: Callable[[], Browser]) -> None:
    browsers = [new_browser() for _ in range(4)]
    for one in browsers:
        one.log_in()
    for number in range(MOST - 2):
        assert browsers[0].post("/tokens", json={"name": str(number)}).status_code == 201

    def create(index: int) -> int:
        return browsers[index].post("/tokens", json={"name": "race"}, headers=JSON).status_code

    assert sorted(at_once(len(browsers), create)) == [201, 201, 409, 409]


def test_tokens_need_a_log_in(browser: Browser) -> None:
    assert_problem(browser.get("/tokens", headers=JSON), 401)
    assert browser.get("/tokens").status_code == 302


def test_errors_beside_the_routes_are_for_programs(browser: Browser) -> None:
    assert_problem(browser.client.put(f"{browser.prefix}/tokens"), 405)
    assert_problem(browser.get("/tokens/1/2"), 404)
