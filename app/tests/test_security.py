"""Requests from other sites, and the headers."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient
from memo_testing.browser import Browser

SAME = [
    {},
    {"Origin": "http://localhost"},
    {"Origin": "https://localhost"},
    {"Origin": "http://localhost:80"},
    {"Origin": "http://localhost:8000", "Host": "localhost:8000"},
    {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"},
    {"Sec-Fetch-Site": "none"},
]
OTHER = [
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "http://localhost:8001"},
    {"Origin": "http://localhost.evil.example"},
    {"Origin": "http://[bad"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site", "Origin": "http://localhost"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"},
]


@pytest.mark.parametrize("headers", SAME)
def test_own_forms_work(browser: Browser, headers: dict[str, str]) -> None:
    browser.log_in()
    assert browser.post("/memos", data={"text": "a"}, headers=headers).status_code in (303, 302)
    assert browser.post("/logout", headers=headers).status_code == 303


@pytest.mark.parametrize("headers", OTHER)
def test_other_sites_change_nothing(browser: Browser, headers: dict[str, str]) -> None:
    browser.log_in()
    assert browser.post("/memos", data={"text": "a"}, headers=headers).status_code == 403
    assert browser.post("/memo", json={"text": "a"}, headers=headers).status_code == 403
    assert browser.post("/logout", headers=headers).status_code == 403
    assert browser.delete("/memo/1", headers=headers).status_code == 403
    assert browser.texts() == []


@pytest.mark.parametrize(
    "path", ["/memo/", "/memo/memo", "/memo/login", "/memo/alive", "/memo/nothing", "/memo/static/memo.js"]
)
def test_headers(client: FlaskClient, path: str) -> None:
    headers = client.get(path).headers
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "same-origin"
    assert headers["X-Request-Id"]
    if "static" not in path:
        assert headers["Cache-Control"] == "no-store"
