"""Sessions end, in Redis and by its clock; what Redis holds is no key to anything."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from flask import Flask
from memo.config import Settings
from memo.sessions import LoginStore, SessionStore, connect, new_token
from memo_testing.browser import JSON, Browser
from memo_testing.servers import Servers
from redis import Redis

from localcloud.naver import NaverStandIn

SECRET = "s" * 40


@pytest.fixture
def redis(settings: Settings) -> Redis:
    return connect(settings)


def until(condition: Callable[[], bool]) -> bool:
    """Whether it came true, in many times what a quiet machine takes."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return condition()


def test_a_session_idles_out(redis: Redis) -> None:
    long, short = (SessionStore(redis, SECRET, idle, absolute_seconds=600) for idle in (300, 1))
    kept, left = long.create("minjun"), short.create("minjun")
    assert until(lambda: not redis.exists(short.key(left) or ""))  # asks Redis: to ask the store is to use the session
    assert short.user(left) is None
    assert long.user(kept) == "minjun"


def test_use_keeps_a_session_from_idling_out(redis: Redis) -> None:
    store = SessionStore(redis, SECRET, idle_seconds=300, absolute_seconds=600)
    key = store.create("minjun")
    name = store.key(key) or ""
    # As if nobody had asked for a while; within one second, asking once counts for all.
    redis.expire(name, 100)
    redis.hset(name, "seen", 0)
    assert store.user(key) == "minjun"
    assert 100 < int(str(redis.ttl(name))) <= 300


def test_no_use_keeps_a_session_beyond_its_absolute_end(redis: Redis) -> None:
    store = SessionStore(redis, SECRET, idle_seconds=300, absolute_seconds=2)
    key = store.create("minjun")
    assert int(str(redis.ttl(store.key(key) or ""))) <= 2
    assert until(lambda: store.user(key) is None)


def test_keys_are_separate_and_end_alone(redis: Redis) -> None:
    store = SessionStore(redis, SECRET, 60, 60)
    first, second = store.create("a"), store.create("b")
    store.end(first)
    assert store.user(first) is None
    assert store.user(second) == "b"
    store.end(None)
    store.end("no key")


@pytest.mark.parametrize("value", [None, "", "*", "A" * 42, "A" * 44, "A" * 42 + "\n", "memo:session:x", "가" * 43])
def test_what_is_no_key_is_never_looked_up(value: str | None) -> None:
    unreachable = Redis(host="127.0.0.1", port=1)
    assert SessionStore(unreachable, SECRET, 60, 60).user(value) is None


def test_redis_holds_neither_key_nor_more_than_it_must(redis: Redis) -> None:
    store = SessionStore(redis, SECRET, 60, 100)
    before = set(redis.scan_iter("memo:session:*"))
    key = store.create("minjun")
    (name,) = set(redis.scan_iter("memo:session:*")) - before
    assert key not in str(name)
    assert 0 < int(str(redis.ttl(name))) <= 60
    assert SessionStore(redis, "other secret" * 4, 60, 100).user(key) is None


def test_state_expires(redis: Redis) -> None:
    store = LoginStore(redis, SECRET, seconds=1)
    browser = new_token()
    state = store.begin(browser)
    time.sleep(1.2)  # what is tested is that time passes
    assert not store.finish(state, browser)


def test_state_is_used_up_by_a_wrong_browser_too(redis: Redis) -> None:
    store = LoginStore(redis, SECRET)
    browser = new_token()
    state = store.begin(browser)
    assert not store.finish(state, new_token())
    assert not store.finish(state, browser)
    assert not store.finish(store.begin(browser), None)
    assert store.finish(store.begin(browser), browser)


def test_stale_cookie_is_taken_away_by_the_page(browser: Browser) -> None:
    browser.set_session_key("A" * 43)
    assert "Log in with Naver" in browser.page()
    assert browser.session_key is None


def test_losing_redis_data_logs_out(
    browser: Browser, redis: Redis, servers: Servers, new_browser: Callable[[], Browser]
) -> None:
    browser.log_in()
    for key in redis.scan_iter("memo:session:*"):
        redis.delete(key)
    assert browser.get("/memo", headers=JSON).status_code == 401
    assert browser.post("/memo", json={"text": "a"}).status_code == 302
    assert "Log in with Naver" in browser.page()


def test_a_second_process_knows_the_session(
    browser: Browser, make_app: Callable[..., Flask], naver: NaverStandIn
) -> None:
    browser.log_in()
    other = Browser(make_app(), naver.url)
    key = browser.session_key
    assert key
    other.set_session_key(key)
    assert other.get("/memo", headers=JSON).status_code == 200


@pytest.mark.parametrize("whose", [["minjun-id"], ["--everybody"]])
def test_an_operator_ends_sessions(app: Flask, redis: Redis, settings: Settings, whose: list[str]) -> None:
    store = SessionStore(redis, settings.secret_key, 60, 60)
    first, second, other = store.create("minjun-id"), store.create("minjun-id"), store.create("someone-else")
    result = app.test_cli_runner().invoke(args=["log-out", *whose])
    assert result.exit_code == 0, result.output
    assert result.output.endswith("sessions ended\n")
    assert store.user(first) is store.user(second) is None
    assert store.user(other) == (None if whose == ["--everybody"] else "someone-else")


@pytest.mark.parametrize("arguments", [[], ["minjun-id", "--everybody"]])
def test_an_operator_says_whose_sessions(app: Flask, arguments: list[str]) -> None:
    result = app.test_cli_runner().invoke(args=["log-out", *arguments])
    assert result.exit_code == 2
    assert "give one user's id, or --everybody" in result.output


def test_threads_that_come_and_go_do_not_use_up_the_connections(settings: Settings) -> None:
    client = connect(settings)
    answers: list[bytes] = []
    for _ in range(client.connection_pool.max_connections + 1):
        thread = threading.Thread(target=lambda: answers.append(client.ask("PING")))
        thread.start()
        thread.join()
    assert set(answers) == {b"PONG"}
    assert len(answers) == client.connection_pool.max_connections + 1
    client.close()
