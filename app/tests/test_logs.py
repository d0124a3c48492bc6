"""The log: one JSON object a line, and nothing in it that is anybody's business."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator

import orjson
import pytest
import requests
from flask import Flask
from memo import logs
from memo.config import Settings
from memo_testing.browser import JSON, Browser, assert_problem

from localcloud.naver import LOCAL_CLIENT, NaverStandIn


@pytest.fixture
def log(app: Flask) -> Iterator[Callable[[], list[dict[str, object]]]]:
    """The lines logged so far."""
    stream = io.StringIO()
    logs.configure("DEBUG", stream)
    yield lambda: [orjson.loads(line) for line in stream.getvalue().splitlines()]
    logs.configure("INFO")


def test_a_request_is_one_line(browser: Browser, log: Callable[[], list[dict[str, object]]]) -> None:
    trace = "Root=1-67891233-abcdef012345678912345678"
    response = browser.get("/memo?cursor=5", headers={"X-Amzn-Trace-Id": trace})
    (line,) = log()
    assert set(line) == {"time", "level", "logger", "message", "request_id", "method", "route", "status", "ms"}
    assert (line["method"], line["route"], line["status"]) == ("GET", "/memo/memo", 302)
    assert line["request_id"] == response.headers["X-Request-Id"] == trace
    assert isinstance(line["ms"], float)


@pytest.mark.parametrize("given", ["", "with space", 'quote"', "x" * 300, "한글"])
def test_a_strange_request_id_is_replaced(browser: Browser, given: str) -> None:
    header = {"X-Request-Id": given.encode().decode("latin-1")}
    assert len(browser.get("/login", headers=header).headers["X-Request-Id"]) == 32
    assert browser.get("/login", headers={"X-Request-Id": "abc-1"}).headers["X-Request-Id"] == "abc-1"


def test_probes_that_succeed_are_not_logged(browser: Browser, log: Callable[[], list[dict[str, object]]]) -> None:
    browser.get("/alive")
    assert log() == []


def test_nothing_secret_is_logged(
    browser: Browser, naver: NaverStandIn, settings: Settings, log: Callable[[], list[dict[str, object]]]
) -> None:
    callback = browser.authorize("minjun")
    browser.client.get(callback)
    key = browser.session_key
    assert key
    browser.post("/memo", json={"text": "아무도 모르는 비밀"})
    browser.get("/")
    browser.client.get(callback)
    requests.put(f"{naver.url}/_standin/faults", json={"token": "down"}, timeout=30).raise_for_status()
    browser.log_in("seoyeon")
    browser.client.get("/memo/" + "아무도 모르는 비밀")
    text = orjson.dumps(log()).decode()
    assert text.count('"request"') >= 8
    query = callback.split("?")[1]
    secrets = [part.split("=")[1] for part in query.split("&")]
    secrets += [key, "아무도 모르는", "김민준", "이서연", LOCAL_CLIENT.secret, settings.database_password]
    assert not [secret for secret in secrets if secret in text]


def test_an_unexpected_error_is_logged_without_its_text(
    make_app: Callable[..., Flask], naver: NaverStandIn, log: Callable[[], list[dict[str, object]]]
) -> None:
    app = make_app()
    stream = io.StringIO()
    logs.configure("INFO", stream)

    def fail(engine: object, user_id: str, text: str) -> None:
        raise RuntimeError(f"about {text}")

    app.extensions["memo"].memos.add_quickly = fail
    browser = Browser(app, naver.url)
    browser.log_in()
    problem = assert_problem(browser.post("/memo", json={"text": "비밀"}), 500)
    assert "비밀" not in str(problem)
    lines = [orjson.loads(line) for line in stream.getvalue().splitlines()]
    (line,) = [line for line in lines if line["level"] == "error"]
    assert line["exception"] == "RuntimeError"
    assert line["traceback"][-1].endswith(" fail")
    assert "비밀" not in stream.getvalue()
    assert lines[-1]["status"] == 500


def test_a_database_error_does_not_quote_rows(
    browser: Browser, app: Flask, make_app: Callable[..., Flask], naver: NaverStandIn
) -> None:
    browser.log_in()
    key = browser.session_key
    assert key
    broken = Browser(make_app(database_password="wrong"), naver.url)
    broken.set_session_key(key)
    stream = io.StringIO()
    logs.configure("INFO", stream)
    try:
        assert_problem(broken.post("/memo", json={"text": "비밀"}, headers=JSON), 503)
    finally:
        logs.configure("INFO")
    lines = [orjson.loads(line) for line in stream.getvalue().splitlines()]
    (line,) = [line for line in lines if line["logger"] == "memo.errors"]
    assert (line["dependency"], line["error"], line["number"]) == ("mysql", "OperationalError", 1045)
    assert "비밀" not in stream.getvalue()


def test_libraries_stay_quiet() -> None:
    logs.configure("DEBUG")
    for name in ("urllib3", "authlib", "sqlalchemy.engine", "botocore"):
        assert not logging.getLogger(name).isEnabledFor(logging.INFO)
    logs.configure("INFO")
