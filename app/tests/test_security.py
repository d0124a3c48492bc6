"""Requests from other sites, and the headers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests
import yaml
from flask import Flask, request
from flask.testing import FlaskClient
from memo.config import Settings
from memo.portability import MOST_BYTES
from memo_testing.browser import JSON, Browser

from localcloud.naver import NaverStandIn

ROOT = Path(__file__).parents[2]

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


@pytest.mark.parametrize("path", ["/memo/", "/memo/memo", "/memo/alive", "/memo/nothing", "/memo/static/memo.js"])
def test_https_is_kept_once_it_is_used(make_app: Callable[..., Flask], path: str) -> None:
    client = make_app(trusted_proxies=1).test_client()
    over_tls = client.get(path, headers={"X-Forwarded-Proto": "https"}).headers
    assert over_tls["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains"
    assert over_tls["Cross-Origin-Opener-Policy"] == "same-origin"
    plain = client.get(path, headers={"X-Forwarded-Proto": "http"}).headers
    assert not {"Strict-Transport-Security", "Cross-Origin-Opener-Policy"} & set(plain.keys())


def test_the_policy_is_the_one_that_nginx_has(client: FlaskClient) -> None:
    nginx = yaml.safe_load((ROOT / "roles/web/vars/main.yml").read_text(encoding="utf-8"))
    policy = client.get("/memo/").headers["Content-Security-Policy"]
    assert policy == nginx["__web_content_security_policy"].strip()
    directives = {part.split()[0]: part.split()[1:] for part in policy.split(";")}
    assert directives["default-src"] == directives["object-src"] == directives["base-uri"] == ["'none'"]
    assert directives["frame-ancestors"] == ["'none'"]
    assert {source for sources in directives.values() for source in sources} == {"'none'", "'self'"}


def test_nginx_lets_through_what_the_application_takes(app: Flask) -> None:
    nginx = yaml.safe_load((ROOT / "roles/web/defaults/main.yml").read_text(encoding="utf-8"))

    def mebibytes(words: str) -> int:
        assert words.endswith("m")
        return int(words[:-1]) * 2**20

    largest = Settings.__dataclass_fields__["memo_max_characters"].default * 12 + 1024
    assert largest < mebibytes(nginx["web_body_limit"])
    assert app.config["MAX_CONTENT_LENGTH"] < mebibytes(nginx["web_body_limit"])
    assert list(nginx["web_body_limits"]) == ["/import"]
    assert MOST_BYTES + 2**16 < mebibytes(nginx["web_body_limits"]["/import"]) < MOST_BYTES + 2**21


@pytest.mark.parametrize("path", ["/", "/account", "/deleted", "/export", "/memo", "/tokens"])
def test_personal_answers_stay_out_of_shared_caches(browser: Browser, path: str) -> None:
    browser.log_in()
    response = browser.get(path, headers=JSON)
    assert response.status_code == 200
    assert response.headers["Cache-Control"] in ("no-store", "private, no-cache")
    if response.headers["Cache-Control"] != "no-store":
        assert "Cookie" in response.headers["Vary"]


def test_an_export_is_saved_not_shown(browser: Browser) -> None:
    browser.log_in()
    for kind in ("json", "markdown"):
        assert browser.get(f"/export?format={kind}").headers["Content-Disposition"].startswith("attachment;")


def test_no_other_origin_may_read(browser: Browser) -> None:
    browser.log_in()
    for origin in ("http://evil.example", "null", "http://localhost"):
        for method in ("GET", "OPTIONS"):
            response = browser.client.open("/memo/memo", method=method, headers={"Origin": origin})
            assert not [name for name, _ in response.headers if name.lower().startswith("access-control-")]


def test_safe_methods_change_nothing(app: Flask) -> None:
    """Every route that changes something takes neither GET nor HEAD."""
    for rule in app.url_map.iter_rules():
        methods = rule.methods or set()
        if methods & {"POST", "PUT", "PATCH", "DELETE"}:
            assert rule.endpoint in app.view_functions
            assert not methods & {"GET", "HEAD"}, rule


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        ('{"text": "a"}', "text/plain"),
        ('{"text": "a"}', "application/x-www-form-urlencoded"),
        ('{"text": "a"}', "multipart/form-data"),
        ('{"text": "a"}', ""),
        ("text=a", "application/x-www-form-urlencoded"),
    ],
)
def test_a_form_of_another_site_is_no_json(browser: Browser, body: str, content_type: str) -> None:
    """What a browser sends anywhere without asking first (Fetch, "CORS-safelisted request-header") is not taken."""
    browser.log_in()
    response = browser.post("/memo", data=body, content_type=content_type)
    assert response.status_code == 415
    assert browser.texts() == []


def test_a_link_from_another_site_does_not_log_in(browser: Browser) -> None:
    for site in ("cross-site", "same-site"):
        response = browser.get("/login", headers={"Sec-Fetch-Site": site})
        assert (response.status_code, response.location) == (302, "/memo/")
    for headers in ({"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}, {}):
        assert "/oauth2.0/authorize" in str(browser.get("/login", headers=headers).location)


@pytest.mark.parametrize(
    ("trusted", "given", "seen"),
    [
        (0, "198.51.100.1", "192.0.2.7"),
        (1, "198.51.100.1", "198.51.100.1"),
        (1, "6.6.6.6, 198.51.100.1", "198.51.100.1"),
        (1, "127.0.0.1, ::1, 198.51.100.1", "198.51.100.1"),
        (2, "6.6.6.6, 198.51.100.1, 203.0.113.5", "198.51.100.1"),
        (1, "", "192.0.2.7"),
    ],
)
def test_only_what_trusted_proxies_add_is_believed(
    make_app: Callable[..., Flask], trusted: int, given: str, seen: str
) -> None:
    app = make_app(trusted_proxies=trusted)
    addresses = []
    app.before_request(lambda: addresses.append(request.remote_addr))
    headers = {"X-Forwarded-For": given} if given else {}
    app.test_client().get("/memo/alive", headers=headers, environ_overrides={"REMOTE_ADDR": "192.0.2.7"})
    assert addresses == [seen]


@pytest.mark.parametrize(("trusted", "given", "scheme"), [(0, "https", "http"), (1, "https", "https"), (1, "", "http")])
def test_the_scheme_is_not_what_a_client_says(
    make_app: Callable[..., Flask], trusted: int, given: str, scheme: str
) -> None:
    """uWSGI sets the scheme from the client's X-Forwarded-Proto; nginx's REQUEST_SCHEME is what counts."""
    app = make_app(trusted_proxies=trusted)
    schemes = []
    app.before_request(lambda: schemes.append(request.scheme))
    as_uwsgi_does = {"wsgi.url_scheme": "https", "REQUEST_SCHEME": "http"}
    headers = {"X-Forwarded-Proto": given} if given else {}
    app.test_client().get("/memo/alive", headers=headers, environ_overrides=as_uwsgi_does)
    assert schemes == [scheme]


EVIL = [{"Host": "evil.example"}, {"X-Forwarded-Host": "evil.example"}, {"Forwarded": "host=evil.example"}]


@pytest.mark.parametrize("headers", EVIL)
@pytest.mark.parametrize(
    "path", ["/memo", "/memo/", "/memo//", "/memo/login", "/memo//login", "/memo/auth", "/memo/import", "/memo/memo"]
)
def test_no_answer_names_a_host_that_a_client_made_up(
    make_app: Callable[..., Flask], path: str, headers: dict[str, str]
) -> None:
    client = make_app(public_url="https://memo.example.org", trusted_proxies=1).test_client()
    response = client.get(path, headers=headers)
    assert "evil" not in response.text
    assert "evil" not in str(response.headers)


def test_redirects_stay_here_or_go_to_the_provider(browser: Browser, naver: NaverStandIn) -> None:
    for path in ("/login", "/auth?state=x", "/memo", "/import", "/account/tokens?next=//evil.example", "/export"):
        response = browser.get(path)
        assert response.status_code in (302, 303), path
        assert response.location.startswith(("/memo/", f"{naver.url}/oauth2.0/authorize?")), response.location
    for page in ("https://evil.example", "//evil.example", "pages.auth", ""):
        response = browser.post("/preferences", data={"language": "ko", "page": page})
        assert response.location == "/memo/"


HOST_ONLY = {"cookie_name": "__Host-userId", "cookie_secure": True}


def test_cookies_for_this_host_only(make_app: Callable[..., Flask], naver: NaverStandIn) -> None:
    """All of them, also when they are taken away: a browser ignores one with other attributes (RFC 6265bis)."""
    browser = Browser(make_app(**HOST_ONLY), naver.url)
    browser.client.set_cookie("__Host-userId", "A" * 43, path="/")
    set_ = browser.get("/").headers.getlist("Set-Cookie")
    begun = browser.get("/login")
    answer = requests.post(begun.location, data={"person": "minjun"}, allow_redirects=False, timeout=30)
    parts = urlsplit(answer.headers["Location"])
    set_ += begun.headers.getlist("Set-Cookie")
    set_ += browser.client.get(f"{parts.path}?{parts.query}").headers.getlist("Set-Cookie")
    assert browser.get("/memo", headers=JSON).status_code == 200
    set_ += browser.post("/preferences", data={"language": "ko", "theme": "dark"}).headers.getlist("Set-Cookie")
    assert 'lang="ko"' in browser.page()
    set_ += browser.post("/logout").headers.getlist("Set-Cookie")
    names = [cookie.split("=")[0] for cookie in set_]
    assert set(names) == {"__Host-userId", "__Host-memoLogin", "__Host-memoLanguage", "__Host-memoTheme"}
    assert names.count("__Host-userId") == 3
    for cookie in set_:
        assert {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"} <= {part.strip() for part in cookie.split(";")}, cookie
        assert "Domain" not in cookie


def test_neither_code_nor_token_of_the_provider_reaches_the_browser(browser: Browser, naver: NaverStandIn) -> None:
    callback = browser.authorize("minjun")
    code = dict(parse_qsl(urlsplit(callback).query))["code"]
    response = browser.client.get(callback)
    seen = str(response.headers) + response.text + browser.page() + browser.get("/account").text
    assert code not in seen
    assert "access_token" not in seen
    assert not [cookie for cookie in response.headers.getlist("Set-Cookie") if "oken" in cookie.split("=")[0]]
