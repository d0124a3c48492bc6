"""The page, and the forms that work without a script."""

from __future__ import annotations

import html
import re
from collections.abc import Callable

import pymysql
import pytest
from flask import Flask
from flask.testing import FlaskClient
from memo.notices import NOTICES
from memo_testing.browser import Browser, body, notice_of

from localcloud.naver import NaverStandIn


def test_logged_out_page_offers_the_login(client: FlaskClient) -> None:
    response = client.get("/memo/")
    assert response.status_code == 200
    assert 'href="/memo/login"' in response.text
    assert response.headers["Cache-Control"] == "no-store"


def test_without_slash(client: FlaskClient) -> None:
    response = client.get("/memo?notice=logged-out")
    assert response.status_code == 308
    assert response.location == "/memo/?notice=logged-out"


def test_memo_text_stays_text(browser: Browser) -> None:
    browser.log_in()
    attack = "</p><script>alert(1)</script><img src=x onerror=alert(1)>{{7777*7777}}"
    browser.post("/memo", json={"text": attack})
    page = browser.page()
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert html.escape(attack, quote=False) in page
    assert str(7777 * 7777) not in page


def test_no_inline_script_or_style(browser: Browser, client: FlaskClient) -> None:
    browser.log_in()
    for page in (browser.page(), client.get("/memo/").text, client.get("/memo/nothing").text):
        assert not re.search(r"<script(?![^>]*\bsrc=)|\sstyle=|\son[a-z]+=|javascript:|https?://", page)


def test_form_creates_and_returns_to_the_page(browser: Browser) -> None:
    browser.log_in()
    response = browser.post("/memos", data={"text": "첫 줄\r\n둘째 줄"})
    assert response.status_code == 303
    assert response.location == "/memo/"
    assert browser.texts() == ["첫 줄\n둘째 줄"]
    assert "첫 줄\n둘째 줄" in browser.page()


@pytest.mark.parametrize(("text", "status", "words"), [(" ", 400, "needs some text"), ("가" * 201, 413, "at most 200")])
def test_form_gives_a_bad_text_back(browser: Browser, text: str, status: int, words: str) -> None:
    browser.log_in()
    response = browser.post("/memos", data={"text": text})
    assert response.status_code == status
    assert words in response.text
    assert f"\n{text}</textarea>" in response.text
    assert browser.texts() == []


@pytest.mark.parametrize(
    "path",
    [
        *("/memos/1/delete", "/memos/1/pin", "/memos/1/restore", "/import", "/account/tokens", "/account/delete"),
        *("/account/tokens/1/revoke", "/account/sessions/end"),
    ],
)
def test_forms_after_the_session_ended(browser: Browser, path: str) -> None:
    response = browser.post(path, data={"text": "a"})
    assert notice_of(response) == "session-over"
    assert "Your session is over" in browser.client.get(response.location).text


@pytest.mark.parametrize("path", ["/memos", "/memos/1"])
def test_a_text_sent_after_the_session_ended_comes_back(browser: Browser, path: str) -> None:
    response = browser.post(path, data={"text": "<쓰던 글>"})
    assert response.status_code == 401
    assert "\n&lt;쓰던 글&gt;</textarea>" in response.text
    assert f'action="/memo{path}"' in response.text
    browser.log_in()
    assert browser.post("/memos", data={"text": "<쓰던 글>"}).status_code == 303
    assert browser.texts() == ["<쓰던 글>"]


@pytest.mark.parametrize("path", ["/account", "/deleted", "/export", "/memos/1/edit"])
def test_pages_for_people_who_are_logged_in(browser: Browser, path: str) -> None:
    assert notice_of(browser.get(path)) == "session-over"


def test_form_deletes_only_the_owners(browser: Browser, new_browser: Callable[[], Browser]) -> None:
    browser.log_in("minjun")
    memo_id = body(browser.post("/memo", json={"text": "mine"}))["id"]
    other = new_browser()
    other.log_in("seoyeon")
    assert notice_of(other.post(f"/memos/{memo_id}/delete")) == "no-such-memo"
    assert browser.texts() == ["mine"]
    assert notice_of(browser.post(f"/memos/{memo_id}/delete")) == "deleted"
    assert browser.texts() == []
    assert notice_of(browser.post("/memos/x/delete")) == "no-such-memo"


def test_older_memos_by_link(browser: Browser, app: Flask, sql: pymysql.cursors.Cursor) -> None:
    browser.log_in()
    sql.execute("SELECT id FROM users")
    (user_id,) = sql.fetchone() or ("",)
    with app.app_context():
        for number in range(53):
            app.extensions["memo"].memos.add(user_id, f"memo no. {number};")
    page = browser.page()
    assert "memo no. 52;" in page
    assert "memo no. 2;" not in page
    link = re.search(r'id="older"[^>]*href="([^"]+)"', page)
    assert link
    older = browser.client.get(html.unescape(link[1])).text
    assert "memo no. 2;" in older
    assert "memo no. 3;" not in older
    assert 'id="older"' not in older


def test_notices_are_ours(client: FlaskClient) -> None:
    for code, words in NOTICES.items():
        assert html.escape(words) in client.get(f"/memo/?notice={code}").text.replace("&#39;", "&#x27;")
    for code in ("<script>", "unknown", ""):
        assert 'id="message"' not in client.get("/memo/", query_string={"notice": code}).text


def test_row_gone_means_logged_out(browser: Browser, sql: pymysql.cursors.Cursor) -> None:
    browser.log_in()
    sql.execute("DELETE FROM users")
    assert "Log in with Naver" in browser.page()
    assert browser.session_key is None


def test_static_files_are_named_by_content(client: FlaskClient) -> None:
    page = client.get("/memo/").text
    addresses = re.findall(r'(?:href|src)="(/memo/static/[^"]+)"', page)
    assert len(addresses) >= 2
    for address in addresses:
        assert "?v=" in address
        response = client.get(html.unescape(address))
        assert response.status_code == 200
        assert "max-age=31536000" in response.headers["Cache-Control"]


def test_unknown_address(client: FlaskClient) -> None:
    response = client.get("/memo/nothing", headers={"Accept": "text/html"})
    assert response.status_code == 404
    assert response.mimetype == "text/html"
    assert "To the memos" in response.text
    assert client.get("/memo/nothing", headers={"Accept": "application/json"}).mimetype == "application/problem+json"
    assert client.get("/").status_code == 404


@pytest.mark.parametrize("prefix", ["", "/a/b-c"])
def test_other_prefixes(make_app: Callable[..., Flask], naver: NaverStandIn, prefix: str) -> None:
    app = make_app(url_prefix=prefix)
    browser = Browser(app, naver.url)
    assert browser.log_in().location == f"{prefix}/"
    assert f"Path={prefix or '/'}" in browser.get("/login").headers["Set-Cookie"]
    assert browser.post("/memo", json={"text": "a"}).status_code == 200
    assert browser.texts() == ["a"]
    assert f'action="{prefix}/memos"' in browser.page()
    assert browser.get("/alive").status_code == 200
    assert browser.client.get(f"{prefix}/static/memo.css").status_code == 200
    browser.post("/logout")
    assert browser.get("/memo").location == f"{prefix}/"
    if prefix:
        assert browser.client.get(prefix).location == f"{prefix}/"
