"""The short way answers like Flask, header by header and byte by byte, and knows when to leave a request to it."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from unittest.mock import Mock

import orjson
import pymysql
import pytest
from babel.dates import format_timedelta
from flask import Flask
from memo import logs, presentation
from memo.lane import Lane
from memo_testing.browser import JSON, Browser, body
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import TestResponse

from localcloud.naver import NaverStandIn

Lines = Callable[[], list[dict[str, object]]]
Answer = tuple[str, list[tuple[str, str]], bytes]
ID = {"X-Request-Id": "the-same"}
KEY = re.compile(rb'name="key" value="[A-Za-z0-9_-]{43}"')
EXPIRES = re.compile("Expires=[^;]+")
CREATED = re.compile(rb'"id":\d+|_at":"[^"]+"')
READS: list[tuple[str, str, dict[str, str]]] = [
    ("GET", "/memo", {}),
    ("GET", "/memo", JSON),
    ("GET", "/memo", {"Accept": "text/html"}),
    ("GET", "/memo", {"If-None-Match": '"0000000000000000000000000000000000000000"'}),
    ("GET", "/memo", {"If-None-Match": "*"}),
    ("GET", "/memo", {"If-None-Match": '"a", "b"'}),
    ("GET", "/memo", {"If-None-Match": "nonsense"}),
    ("GET", "/memo", {"If-Match": '"a"'}),
    ("GET", "/memo", {"Range": "bytes=0-3"}),
    ("GET", "/memo", {"If-Modified-Since": "Tue, 24 Nov 2026 00:00:00 GMT"}),
    ("GET", "/memo", {"Authorization": "Bearer nothing"}),
    ("GET", "/memo", {"Authorization": "Basic YTpi"}),
    ("GET", "/memo?limit=1", {}),
    ("GET", "/memo?", {}),
    ("GET", "/memo/", {}),
    ("HEAD", "/memo", {}),
    ("OPTIONS", "/memo", {}),
    ("PUT", "/memo", {}),
    ("GET", "/", {}),
    ("GET", "/", {"Accept": "text/html", "Accept-Language": "ko-KR,ko;q=0.9,en;q=0.8"}),
    ("GET", "/", {"Accept-Language": "fr, ko;q=0.2"}),
    ("GET", "/", {"Accept-Language": ";;;"}),
    ("GET", "/?undo=1", {}),
    ("HEAD", "/", {}),
    ("POST", "/", {}),
]
WRITES: list[tuple[str | bytes, dict[str, str]]] = [
    ('{"text": "우유 👋"}', {}),
    ('{"text": "a", "more": 1}', {}),
    ('{"text": "a"}', {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"}),
    ('{"text": "a"}', {"Sec-Fetch-Site": "cross-site"}),
    ('{"text": "a"}', {"Origin": "http://localhost"}),
    ('{"text": "a"}', {"Origin": "http://evil.example"}),
    ('{"text": "a"}', {"Content-Type": "application/json; charset=utf-8"}),
    ('{"text": "a"}', {"Content-Type": "text/plain"}),
    ('{"text": "a"}', {"Idempotency-Key": "no good key"}),
    ('{"text": "a"}', {"Authorization": "Bearer nothing"}),
    ('{"text": " "}', {}),
    ('{"text": 1}', {}),
    ('{"text": "\\ud83d"}', {}),
    ('["text"]', {}),
    ("{}", {}),
    ("{", {}),
    ("", {}),
    (b'{"text": "\xff"}', {}),
    ('{"text": "' + "x" * 201 + '"}', {}),
    ('{"text": "' + "x" * 20_000 + '"}', {}),
]


@pytest.fixture
def plain(make_app: Callable[..., Flask]) -> Flask:
    """The same application without the lane."""
    app = make_app()
    app.wsgi_app = Flask.wsgi_app.__get__(app)  # type: ignore[method-assign]
    return app


@pytest.fixture
def reader(browser: Browser, sql: pymysql.cursors.Cursor) -> Browser:
    """Somebody with memos of many ages, old ones alone so that the page may be kept."""
    browser.log_in()
    for number in range(3):
        browser.post("/memo", json={"text": f"<b>메모 {number}</b>"})
    sql.execute("UPDATE memos SET created_at = '2026-01-02 03:04:05', updated_at = '2026-01-02 03:04:05.5'")
    browser.post("/memos", data={"text": "gone"})
    browser.delete(f"/memo/{body(browser.get('/memo?limit=1'))['memos'][0]['id']}")
    return browser


def ask(
    browser: Browser, app: Flask, method: str, path: str, headers: dict[str, str], data: str | bytes | None = None
) -> Answer:
    """The status, the headers and the body, without what differs from one answer to the next."""
    client = app.test_client()
    client.set_cookie(browser.cookie_name, browser.session_key or "", path=browser.prefix)
    if data is not None:
        headers = {"Content-Type": "application/json"} | headers
    asked = datetime.now(UTC)
    answer = client.open(browser.prefix + path, method=method, data=data, headers=headers | ID)
    return answer.status, timeless(answer, asked), KEY.sub(b"", answer.data)


def timeless(answer: TestResponse, asked: datetime) -> list[tuple[str, str]]:
    """The headers, with a date that is right taken for any other."""
    if answer.date is not None:
        assert asked.replace(microsecond=0) <= answer.date <= datetime.now(UTC)
        answer.date = datetime.fromtimestamp(0, UTC)
    return sorted((name, EXPIRES.sub("", value)) for name, value in answer.headers.items())


@pytest.mark.parametrize(("method", "path", "headers"), READS)
def test_reads_are_answered_like_flask_does(
    reader: Browser, app: Flask, plain: Flask, method: str, path: str, headers: dict[str, str]
) -> None:
    wanted = ask(reader, plain, method, path, headers)
    for _ in range(3):
        assert ask(reader, app, method, path, headers) == wanted


@pytest.mark.parametrize(("data", "headers"), WRITES)
def test_writes_are_answered_like_flask_does(
    reader: Browser, app: Flask, plain: Flask, data: str | bytes, headers: dict[str, str]
) -> None:
    def written(app: Flask) -> Answer:
        status, found, content = ask(reader, app, "POST", "/memo", headers, data)
        return status, [header for header in found if header[0] != "Content-Length"], CREATED.sub(b"", content)

    assert written(app) == written(plain)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("path", ["/memo", "/"])
def test_each_scheme_has_its_answer(reader: Browser, app: Flask, plain: Flask, path: str, scheme: str) -> None:
    def answer(app: Flask) -> Answer:
        client = app.test_client()
        client.set_cookie(reader.cookie_name, reader.session_key or "", path=reader.prefix)
        asked = datetime.now(UTC)
        found = client.get(reader.prefix + path, base_url=f"{scheme}://localhost", headers=ID)
        return found.status, timeless(found, asked), KEY.sub(b"", found.data)

    assert [answer(app), answer(app)] == [answer(plain)] * 2


@pytest.mark.parametrize("told", ["http", "https", "https, http", "http, https", "ftp", ""])
@pytest.mark.parametrize("path", ["/memo", "/"])
def test_behind_a_proxy_the_scheme_is_what_the_proxy_says(
    reader: Browser, make_app: Callable[..., Flask], path: str, told: str
) -> None:
    app, plain = make_app(trusted_proxies=1), make_app(trusted_proxies=1)
    plain.wsgi_app = ProxyFix(Flask.wsgi_app.__get__(plain), x_proto=1)  # type: ignore[method-assign]
    headers = {"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": told}
    wanted = ask(reader, plain, "GET", path, headers)
    assert [ask(reader, app, "GET", path, headers) for _ in range(2)] == [wanted] * 2
    assert any(name == "Strict-Transport-Security" for name, _ in wanted[1]) == told.endswith("https")


@pytest.mark.parametrize("weak", ["", "W/"])
def test_304(reader: Browser, app: Flask, plain: Flask, weak: str) -> None:
    tag = reader.get("/memo").headers["ETag"]
    wanted = ask(reader, plain, "GET", "/memo", {"If-None-Match": weak + tag})
    assert wanted[0] == "304 NOT MODIFIED"
    assert ask(reader, app, "GET", "/memo", {"If-None-Match": weak + tag}) == wanted
    reader.post("/memo", json={"text": "another"})
    assert reader.get("/memo", headers={"If-None-Match": tag}).status_code == 200
    # The first one to ask after a change may be one who has it already.
    tag = reader.get("/memo").headers["ETag"]
    app.extensions["memo"].redis.delete("memo:cache:" + user_of(app, reader))
    assert reader.get("/memo", headers={"If-None-Match": tag}).status_code == 304


@pytest.mark.parametrize(
    "cookies", [{}, {"memoLanguage": "ko"}, {"memoTheme": "dark"}, {"memoLanguage": "xx", "memoTheme": "y"}]
)
def test_what_a_browser_chose(reader: Browser, app: Flask, plain: Flask, cookies: dict[str, str]) -> None:
    def answers(app: Flask) -> Iterator[bytes]:
        client = app.test_client()
        client.set_cookie(reader.cookie_name, reader.session_key or "", path=reader.prefix)
        for name, value in cookies.items():
            client.set_cookie(name, value, path=reader.prefix)
        for _ in range(2):
            yield KEY.sub(b"", client.get("/memo/").data)

    assert list(answers(app)) == list(answers(plain))


def test_logged_out(browser: Browser, app: Flask, plain: Flask) -> None:
    browser.set_session_key("x" * 43)
    for path in ("/memo", "/"):
        assert ask(browser, app, "GET", path, {}) == ask(browser, plain, "GET", path, {})
        assert ask(browser, app, "GET", path, JSON) == ask(browser, plain, "GET", path, JSON)
    assert ask(browser, app, "POST", "/memo", JSON, '{"text": "a"}')[0] == "401 UNAUTHORIZED"


def test_every_showing_of_the_page_has_a_form_key_of_its_own(reader: Browser) -> None:
    pages = [reader.get("/").data for _ in range(4)]
    keys = {KEY.search(page)[0] for page in pages}  # type: ignore[index]
    assert len(keys) == 4
    assert len({KEY.sub(b"", page) for page in pages}) == 1


def test_what_is_kept_is_answered_without_flask(reader: Browser, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    lane: object = app.wsgi_app
    while not isinstance(lane, Lane):
        lane = getattr(lane, "_app", None)
        assert lane is not None
    texts, page = reader.texts(), reader.page()

    def flask(*_: object) -> None:
        raise AssertionError("asked Flask")

    monkeypatch.setattr(lane, "_app", flask)
    assert reader.texts() == texts
    assert len(reader.page()) == len(page)
    with pytest.raises(AssertionError, match="asked Flask"):
        reader.get("/memo?limit=1")


def test_a_lane_request_is_logged_like_others_unless_it_was_kept(
    reader: Browser, log_lines: Callable[[], list[dict[str, object]]]
) -> None:
    for number in range(2):
        reader.get("/memo", headers={"X-Amzn-Trace-Id": f"Root=1-{number}"})
        reader.get("/", headers={"X-Request-Id": "page"})
    reader.post("/memo", json={"text": "a"})
    lines = log_lines()
    assert [(line["method"], line["route"], line["status"]) for line in lines] == [
        *[("GET", "/memo/memo", 200), ("GET", "/memo/", 200)],
        ("POST", "/memo/memo", 200),
    ]
    assert [line["request_id"] for line in lines[:2]] == ["Root=1-0", "page"]
    assert all(isinstance(line["ms"], float) for line in lines)


def test_nothing_is_kept_of_a_user_with_a_token(reader: Browser, app: Flask) -> None:
    """A version without the cache takes tokens and leaves no sign of it in Redis."""
    cache = app.extensions["memo"].redis
    reader.texts()
    assert cache.hkeys("memo:cache:" + user_of(app, reader))
    token = body(reader.post("/tokens", json={"name": "t"}))
    assert reader.texts()
    assert not {key for key in cache.hkeys("memo:cache:" + user_of(app, reader)) if ":" in key}
    reader.delete(f"/tokens/{token['id']}")


def user_of(app: Flask, browser: Browser) -> str:
    user: str = app.extensions["memo"].sessions.user(browser.session_key)
    return user


def test_a_time_on_the_page_stays_true_as_long_as_the_page_is_kept() -> None:
    """Against what Babel makes of every age, in steps that do not fit its units."""
    seconds = 0.0
    while seconds < 8 * 86400:
        steady = presentation.steady_seconds(timedelta(seconds=seconds))
        if steady >= 1:
            end = min(steady, 10 * 86400)
            assert {told(seconds + end * part) for part in (0.25, 0.5, 0.75, 0.999)} == {told(seconds)}, seconds
        seconds += 7.3 if seconds < 7200 else 613.7


def told(seconds: float) -> str:
    age = timedelta(seconds=seconds)
    if age < timedelta(seconds=45):
        return "now"
    return format_timedelta(-age, add_direction=True, locale="en") if age < timedelta(days=7) else "date"


def test_a_young_memo_is_not_told_its_age_from_the_cache(
    browser: Browser, sql: pymysql.cursors.Cursor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page's clock is the test's, which stands still while a slow machine works; the cache's is that of Redis."""
    browser.log_in()
    browser.post("/memo", json={"text": "a"})
    made = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    sql.execute("UPDATE memos SET created_at = %s, updated_at = created_at", [made])
    clock = Mock(now=lambda _: made + timedelta(seconds=87))
    monkeypatch.setattr(presentation, "datetime", clock)
    assert "1 minute ago" in browser.page()
    answered = datetime.now(UTC)
    clock.now = lambda _: made + timedelta(seconds=91)
    while True:
        asked = datetime.now(UTC)
        if "2 minutes ago" in browser.page():
            break
        # What was told is true for two seconds more: until 90 s of age, less the one that Babel rounds up.
        assert asked < answered + timedelta(seconds=2)


@pytest.fixture
def log_lines(reader: Browser) -> Iterator[Lines]:
    stream = io.StringIO()
    logs.configure("INFO", stream)
    yield lambda: [orjson.loads(line) for line in stream.getvalue().splitlines()]
    logs.configure("INFO")


def test_a_prefix_may_be_empty(make_app: Callable[..., Flask], naver: NaverStandIn) -> None:
    browser = Browser(make_app(url_prefix=""), naver.url)
    browser.log_in()
    browser.post("/memo", json={"text": "a"})
    assert [browser.texts(), browser.texts()] == [["a"], ["a"]]
    assert 'action="/memos"' in browser.page()
    assert browser.page().count('action="/memos"') == 1
