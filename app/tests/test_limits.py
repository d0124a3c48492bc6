"""Too many requests are answered with 429, for each user and address apart."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator

import pytest
from flask import Flask
from memo.config import Settings
from memo.limits import Limiter, bucket
from memo.sessions import connect
from memo_testing.browser import JSON, Browser, assert_problem, body

from localcloud.naver import NaverStandIn

HTML = {"Accept": "text/html"}
SLOW = {"rate_reads": 0.02, "rate_reads_burst": 5, "rate_writes": 0.02, "rate_writes_burst": 3}
ADDRESSES = {"rate_address": 0.02, "rate_address_burst": 4}


@pytest.fixture
def app(make_app: Callable[..., Flask], settings: Settings) -> Iterator[Flask]:
    """An application with low limits, for readers, writers, and addresses."""
    yield make_app(**SLOW, **ADDRESSES, trusted_proxies=1)
    redis = connect(settings)
    for key in redis.scan_iter("memo:rate:*"):
        redis.delete(key)


@pytest.fixture
def browser(app: Flask, naver: NaverStandIn) -> Browser:
    made = Browser(app, naver.url)
    made.log_in()
    return made


def asked(browser: Browser, path: str, times: int) -> list[int]:
    return [browser.get(path, headers=JSON).status_code for _ in range(times)]


@pytest.mark.parametrize("path", ["/memo", "/memo?limit=1"])
def test_reads(browser: Browser, path: str) -> None:
    started = time.monotonic()
    assert asked(browser, path, 6) == [200] * 5 + [429]
    answer = browser.get(path, headers=JSON)
    problem = assert_problem(answer, 429)
    assert 50 - (time.monotonic() - started) <= int(answer.headers["Retry-After"]) <= 50
    assert answer.headers["Retry-After"] in problem["detail"]
    # Writes are counted apart, and so is everybody else.
    assert browser.post("/memo", json={"text": "a"}).status_code == 200


def test_the_page_is_for_people(browser: Browser) -> None:
    asked(browser, "/memo", 5)
    answer = browser.get("/", headers=HTML)
    assert (answer.status_code, answer.mimetype) == (429, "text/html")
    assert "That was too fast" in answer.text
    korean = browser.get("/", headers=HTML | {"Accept-Language": "ko"})
    assert "요청이 너무 잦습니다" in korean.text
    assert int(korean.headers["Retry-After"]) > 0


def test_writes(browser: Browser) -> None:
    statuses = [browser.post("/memo", json={"text": "a"}).status_code for _ in range(2)]
    statuses += [browser.post("/memos", data={"text": "b"}).status_code for _ in range(2)]
    assert statuses == [200, 200, 303, 429]
    assert_problem(browser.post("/memo", json={"text": "c"}), 429)
    assert len(body(browser.get("/memo"))["memos"]) == 3


def test_tokens_share_their_owners_limit(app: Flask, browser: Browser, naver: NaverStandIn) -> None:
    token = body(browser.post("/tokens", json={"name": "t"}))["token"]
    program = Browser(app, naver.url)
    headers = JSON | {"Authorization": f"Bearer {token}"}
    assert [program.get("/memo", headers=headers).status_code for _ in range(3)] == [200] * 3
    assert asked(browser, "/memo", 3) == [200, 200, 429]
    assert program.get("/memo", headers=headers).status_code == 429


def test_nobody_guesses_tokens_or_sessions_for_long(app: Flask, naver: NaverStandIn) -> None:
    stranger = Browser(app, naver.url)
    statuses = []
    for number in range(5):
        headers = JSON | {"Authorization": f"Bearer memo_{secrets.token_urlsafe(32)}"}
        if number % 2:
            stranger.set_session_key(secrets.token_urlsafe(32))
            headers = JSON
        statuses.append(stranger.get("/memo", headers=headers).status_code)
    assert statuses == [401] * 4 + [429]


@pytest.mark.parametrize("path", ["/", "/login", "/auth", "/nothing", "/openapi.json"])
def test_an_address(app: Flask, path: str) -> None:
    client = app.test_client()

    def statuses(address: str, times: int) -> list[bool]:
        headers = {"X-Forwarded-For": f"203.0.113.9, {address}"}
        return [client.get("/memo" + path, headers=headers).status_code == 429 for _ in range(times)]

    assert statuses("198.51.100.7", 5) == [False] * 4 + [True]
    assert statuses("198.51.100.8", 1) == [False]
    assert statuses("2001:db8::1", 2) + statuses("2001:db8::2", 3) == [False] * 4 + [True]
    assert statuses("2001:db8:0:1::1", 1) == [False]


@pytest.mark.parametrize("path", ["/memo/alive", "/memo/ready", "/memo/static/memo.js", "/memo"])
def test_free_of_limits(app: Flask, path: str) -> None:
    client = app.test_client()
    assert {client.get(path).status_code for _ in range(10)} <= {200, 308}


def test_a_bucket_fills_again(settings: Settings) -> None:
    redis = connect(settings)
    limit = bucket(f"test-{secrets.token_hex(4)}", per_second=0.02, burst=2)
    limiter = Limiter(redis, limit, limit, limit)
    waits = [limiter.user("a", "read") for _ in range(3)]
    assert waits[:2] == [0, 0]
    assert 0 < waits[2] <= 50_000
    key = f"{limit.keys}a"
    assert 0 < redis.pttl(key) <= 100_000
    for requests in (1, 2):
        # The bucket of somebody who began earlier: nobody waits so long here, and nothing is lost by being slow.
        redis.decrby(key, requests * limit.interval)
        waits = [limiter.user("a", "read") for _ in range(requests + 1)]
        assert waits[:requests] == [0] * requests
        assert 0 < waits[requests] <= 50_000
