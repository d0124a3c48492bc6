"""The log-in: state, refusal, provider faults, names."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import pymysql
import pytest
import requests
from flask import Flask
from memo_testing.browser import JSON, Browser, notice_of
from memo_testing.threads import at_once

from localcloud.naver import LOCAL_CLIENT, NaverStandIn


def test_login_goes_to_the_provider_with_all_it_asks_for(browser: Browser, naver: NaverStandIn) -> None:
    response = browser.get("/login")
    assert response.status_code == 302
    parts = urlsplit(response.location)
    assert f"{parts.scheme}://{parts.netloc}{parts.path}" == f"{naver.url}/oauth2.0/authorize"
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    assert query["response_type"] == "code"
    assert query["client_id"] == LOCAL_CLIENT.id
    assert query["redirect_uri"] == "http://localhost/memo/auth"
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", query["state"])
    assert LOCAL_CLIENT.secret not in response.location


def test_states_are_never_the_same(browser: Browser) -> None:
    states = {parse_qs(urlsplit(browser.get("/login").location).query)["state"][0] for _ in range(20)}
    assert len(states) == 20


def test_callback_logs_in_and_greets_by_name(browser: Browser, sql: pymysql.cursors.Cursor) -> None:
    response = browser.log_in("minjun")
    assert response.status_code == 302
    assert response.location == "/memo/"
    assert "김민준" in browser.page()
    sql.execute("SELECT name FROM users")
    assert sql.fetchall() == (("김민준",),)


def test_cookie_is_opaque_and_guarded(browser: Browser, sql: pymysql.cursors.Cursor) -> None:
    response = browser.log_in()
    cookie = next(value for value in response.headers.getlist("Set-Cookie") if value.startswith("userId="))
    attributes = [part.strip() for part in cookie.split(";")]
    assert re.fullmatch(r"userId=[A-Za-z0-9_-]{43}", attributes[0])
    assert {"HttpOnly", "SameSite=Lax", "Path=/memo", "Max-Age=600"} <= set(attributes)
    assert "Secure" not in attributes
    sql.execute("SELECT id FROM users")
    rows = sql.fetchall()
    assert rows[0][0] not in cookie


@pytest.mark.parametrize(
    ("changes", "headers", "secure"),
    [
        ({"cookie_secure": True}, {}, True),
        ({"trusted_proxies": 1}, {"X-Forwarded-Proto": "https"}, True),
        ({"trusted_proxies": 1}, {"X-Forwarded-Proto": "http"}, False),
        ({}, {"X-Forwarded-Proto": "https"}, False),
        ({"cookie_secure": False, "trusted_proxies": 1}, {"X-Forwarded-Proto": "https"}, False),
    ],
)
def test_cookie_is_secure_when_served_over_tls(
    make_app: Callable[..., Flask], changes: dict[str, object], headers: dict[str, str], secure: bool
) -> None:
    response = make_app(**changes).test_client().get("/memo/login", headers=headers)
    assert ("Secure" in response.headers["Set-Cookie"]) is secure
    expected = "https" if changes.get("trusted_proxies") and headers["X-Forwarded-Proto"] == "https" else "http"
    assert parse_qs(urlsplit(response.location).query)["redirect_uri"][0].startswith(f"{expected}://")


def test_public_url_makes_the_callback(make_app: Callable[..., Flask]) -> None:
    app = make_app(public_url="https://memo.example.org")
    location = app.test_client().get("/memo/login", headers={"Host": "10.0.0.9"}).location
    assert parse_qs(urlsplit(location).query)["redirect_uri"] == ["https://memo.example.org/memo/auth"]


def test_known_user_gets_the_new_name(browser: Browser, naver: NaverStandIn, sql: pymysql.cursors.Cursor) -> None:
    browser.log_in("jihu")
    requests.put(f"{naver.url}/_standin/people/jihu", json={"name": "박새이름 🌱"}, timeout=30).raise_for_status()
    try:
        browser.log_in("jihu")
        sql.execute("SELECT name FROM users")
        assert sql.fetchall() == (("박새이름 🌱",),)
        assert "박새이름 🌱" in browser.page()
    finally:
        requests.put(f"{naver.url}/_standin/people/jihu", json={"name": "박지후"}, timeout=30).raise_for_status()


def test_withheld_name(browser: Browser, sql: pymysql.cursors.Cursor) -> None:
    assert browser.log_in("nameless").location == "/memo/"
    assert "Naver user" in browser.page()
    assert browser.post("/memo", json={"text": "이름 없이"}).status_code == 200
    sql.execute("SELECT name FROM users")
    assert sql.fetchall() == ((None,),)


def test_markup_in_a_name_stays_text(browser: Browser, naver: NaverStandIn) -> None:
    name = "<script>alert(1)</script>"
    requests.put(f"{naver.url}/_standin/people/mallory", json={"name": name}, timeout=30).raise_for_status()
    browser.log_in("mallory")
    assert "<script>alert" not in browser.page()
    assert "&lt;script&gt;alert(1)" in browser.page()


def test_refusal(browser: Browser) -> None:
    response = browser.log_in("refuse")
    assert notice_of(response) == "login-refused"
    assert "did not allow" in browser.client.get(response.location).text
    assert browser.session_key is None


def test_wrong_state(browser: Browser) -> None:
    callback = urlsplit(browser.authorize("minjun"))
    query = dict(parse_qsl(callback.query))
    for state in ("x" * 43, "", "짧", "A" * 5000):
        response = browser.client.get(f"{callback.path}?{urlencode(query | {'state': state})}")
        assert notice_of(response) == "login-state", state
    assert browser.session_key is None


@pytest.mark.parametrize("query", ["", "?code=abc", "?state=abc", "?error=access_denied", "?code=a&code=b&state=%ff"])
def test_callback_without_a_login(browser: Browser, query: str) -> None:
    response = browser.get(f"/auth{query}")
    assert notice_of(response) == "login-state"
    assert "Please log in again" in browser.client.get(response.location).text


def test_state_is_good_once(browser: Browser) -> None:
    callback = browser.authorize("minjun")
    assert notice_of(browser.client.get(callback)) is None
    browser.post("/logout")
    assert notice_of(browser.client.get(callback)) == "login-state"
    assert browser.session_key is None


def test_state_is_bound_to_the_browser(browser: Browser, new_browser: Callable[[], Browser]) -> None:
    callback = browser.authorize("minjun")
    victim = new_browser()
    victim.get("/login")  # has a key of its own
    assert notice_of(victim.client.get(callback)) == "login-state"
    assert victim.session_key is None


def test_two_tabs(browser: Browser) -> None:
    first, second = browser.authorize("minjun"), browser.authorize("minjun")
    assert notice_of(browser.client.get(second)) is None
    # The first log-in took the browser's key away; the second tab is simply told to try again.
    assert notice_of(browser.client.get(first)) == "login-state"


def test_used_code(browser: Browser) -> None:
    used = dict(parse_qsl(urlsplit(browser.authorize("minjun")).query))["code"]
    fresh = urlsplit(browser.authorize("minjun"))
    state = dict(parse_qsl(fresh.query))["state"]
    # The stand-in binds a code to its state; Naver answers 200 with an error.
    response = browser.client.get(f"{fresh.path}?{urlencode({'code': used, 'state': state})}")
    assert notice_of(response) == "login-rejected"
    assert "did not accept" in browser.client.get(response.location).text


@pytest.mark.parametrize("endpoint", ["token", "profile"])
@pytest.mark.parametrize("fault", [{"mode": "down"}, {"mode": "slow", "seconds": 60}, {"mode": "error", "status": 500}])
def test_provider_is_down(
    make_app: Callable[..., Flask], naver: NaverStandIn, endpoint: str, fault: dict[str, object]
) -> None:
    browser = Browser(make_app(naver_timeout=1), naver.url)
    callback = browser.authorize("minjun")
    requests.put(f"{naver.url}/_standin/faults", json={endpoint: fault}, timeout=30).raise_for_status()
    response = browser.client.get(callback)
    assert notice_of(response) == "login-unavailable"
    assert "does not answer" in browser.client.get(response.location).text
    assert browser.session_key is None


def test_wrong_client_secret(make_app: Callable[..., Flask], naver: NaverStandIn) -> None:
    browser = Browser(make_app(naver_client_secret="wrong"), naver.url)
    assert notice_of(browser.log_in()) == "login-rejected"


def test_login_makes_a_new_key_and_ends_the_old(browser: Browser, new_browser: Callable[[], Browser]) -> None:
    browser.log_in()
    old = browser.session_key
    browser.log_in()
    assert old
    assert browser.session_key not in (None, old)
    other = new_browser()
    other.set_session_key(old)
    assert other.get("/memo").status_code == 302


def test_a_planted_key_is_not_taken_over(browser: Browser) -> None:
    planted = "A" * 43
    browser.set_session_key(planted)
    browser.log_in()
    assert browser.session_key != planted


def test_logout(browser: Browser, new_browser: Callable[[], Browser]) -> None:
    browser.log_in()
    key = browser.session_key
    assert key
    response = browser.post("/logout")
    assert response.status_code == 303
    assert browser.session_key is None
    assert "You are logged out" in browser.client.get(response.location).text
    other = new_browser()
    other.set_session_key(key)
    assert other.get("/memo", headers=JSON).status_code == 401
    assert browser.get("/logout").status_code == 405


def test_two_first_logins_at_once(new_browser: Callable[[], Browser], sql: pymysql.cursors.Cursor) -> None:
    browsers = [new_browser() for _ in range(8)]
    callbacks = [browser.authorize("haeun") for browser in browsers]

    def log_in(number: int) -> str | None:
        return notice_of(browsers[number].client.get(callbacks[number]))

    assert at_once(len(browsers), log_in) == [None] * len(browsers)
    sql.execute("SELECT COUNT(*) FROM users")
    assert sql.fetchone() == (1,)
    assert all("최하은" in browser.page() for browser in browsers)
