"""The service's contract, through the load balancer, as clients see it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
import requests
from endtoend.people import TIMEOUT, Person, query
from endtoend.stack import Stack

pytestmark = pytest.mark.e2e

PROBLEM = "application/problem+json"


@pytest.fixture
def faults(service: Stack) -> Iterator[Callable[[dict[str, object]], None]]:
    """Makes the provider misbehave until the test is over."""
    address = f"{service.settings.naver_url}/_standin/faults"

    def put(wanted: dict[str, object]) -> None:
        assert requests.put(address, json=wanted, timeout=TIMEOUT).ok

    yield put
    requests.delete(address, timeout=TIMEOUT)


def test_page_without_slash_moves_permanently(visitor: Callable[[], Person]) -> None:
    person = visitor()
    answer = person.session.get(person.url.rstrip("/"), allow_redirects=False, timeout=TIMEOUT)
    assert answer.status_code == 308
    assert answer.headers["Location"].endswith("/memo/")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_logged_out(visitor: Callable[[], Person], method: str) -> None:
    person = visitor()
    answer = person.session.request(
        method, person.url + "memo", json={"text": "x"}, allow_redirects=False, timeout=TIMEOUT
    )
    assert answer.status_code == 302
    assert requests.compat.urljoin(person.url, answer.headers["Location"]) == person.url
    answer = person.session.request(
        method, person.url + "memo", headers={"Accept": "application/json"}, allow_redirects=False, timeout=TIMEOUT
    )
    assert answer.status_code == 401
    assert answer.headers["Content-Type"].startswith(PROBLEM)


def test_login_asks_the_provider_with_a_fresh_state(visitor: Callable[[], Person]) -> None:
    first, second = query(visitor().begin_login()), query(visitor().begin_login())
    assert first["response_type"] == "code"
    assert first["redirect_uri"] == visitor().url + "auth"
    assert first["state"] != second["state"]
    assert len(first["state"]) >= 22  # 128 bits in base64


def test_memo_is_written_and_read(user: Callable[[str], Person]) -> None:
    person = user("minjun")
    answer = person.write("첫 번째 메모 📝 <script>alert(1)</script>")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.json()["text"] == "첫 번째 메모 📝 <script>alert(1)</script>"
    assert person.write("두 번째").status_code == 200
    assert person.memos()[:2] == ["두 번째", "첫 번째 메모 📝 <script>alert(1)</script>"]
    page = person.get(Accept="text/html")
    assert "<script>alert(1)" not in page.text
    assert "김민준" in page.text


def test_memos_are_the_callers_own(user: Callable[[str], Person]) -> None:
    assert user("minjun").write("민준의 비밀").status_code == 200
    assert "민준의 비밀" not in user("seoyeon").memos()


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"text=hello", "application/x-www-form-urlencoded"),
        (b'{"text": "hello"}', "text/plain"),
        (b"{not json", "application/json"),
        (b'["text"]', "application/json"),
        (b"{}", "application/json"),
        (b'{"text": 1}', "application/json"),
        (b'{"text": null}', "application/json"),
        (b'{"text": ""}', "application/json"),
        (b'{"text": " \\n\\t "}', "application/json"),
        (b'{"text": "' + b"a" * 200_000 + b'"}', "application/json"),
        (b"\xff\xfe", "application/json"),
    ],
    ids=[
        "form",
        "plain text",
        "broken JSON",
        "not an object",
        "text missing",
        "text a number",
        "text null",
        "text empty",
        "text blank",
        "text too long",
        "not UTF-8",
    ],
)
def test_bad_input_stores_nothing(user: Callable[[str], Person], body: bytes, content_type: str) -> None:
    person = user("jihu")
    before = person.memos()
    answer = person.session.post(
        person.url + "memo", data=body, headers={"Content-Type": content_type}, timeout=TIMEOUT, allow_redirects=False
    )
    assert answer.status_code in {400, 413, 415}, answer.text
    assert answer.headers["Content-Type"].startswith(PROBLEM)
    problem = answer.json()
    assert problem["status"] == answer.status_code
    assert problem["detail"]
    assert person.memos() == before


def test_too_long_states_the_limit(user: Callable[[str], Person]) -> None:
    answer = user("jihu").write("가" * 100_001)
    assert answer.status_code in {400, 413}
    assert re.search(r"\d{3,}", answer.json()["detail"])


def test_session_cookie(user: Callable[[str], Person]) -> None:
    person = visitor_cookie = user("minjun")
    cookie = next(cookie for cookie in visitor_cookie.session.cookies if cookie.name == "userId")
    assert cookie.has_nonstandard_attr("HttpOnly")
    assert str(cookie.get_nonstandard_attr("SameSite")).lower() == "lax"
    assert cookie.value is not None
    assert len(cookie.value) >= 22
    before = cookie.value
    person.login("minjun")
    after = person.session.cookies.get("userId")
    assert after not in (None, before)
    old = Person(person.url)
    old.session.cookies.set("userId", before)
    assert old.get("memo", Accept="application/json").status_code == 401


def test_unknown_cookie_is_logged_out(visitor: Callable[[], Person]) -> None:
    person = visitor()
    person.session.cookies.set("userId", "no-such-session")
    assert person.get().status_code == 200
    assert person.get("memo", Accept="application/json").status_code == 401
    assert (
        person.session.post(person.url + "memo", json={"text": "x"}, timeout=TIMEOUT, allow_redirects=False).status_code
        == 302
    )


def page_says_why(answer: requests.Response, url: str) -> None:
    """The page, with a message, and nobody logged in."""
    assert answer.status_code == 200, answer.status_code
    assert answer.url.startswith(url)
    assert re.search(r'id="message"[^>]*>\s*<span>\s*[^<\s]', answer.text), answer.text
    assert "Internal Server Error" not in answer.text


def test_refusal_ends_on_the_page(visitor: Callable[[], Person]) -> None:
    person = visitor()
    page_says_why(person.login("refuse"), person.url)


def test_used_code_and_wrong_state_end_on_the_page(visitor: Callable[[], Person]) -> None:
    person = visitor()
    callback = person.choose(person.begin_login(), "haeun")
    assert "최하은" in person.follow(callback).text
    page_says_why(person.follow(callback), person.url)
    stranger = visitor()
    stranger.begin_login()
    page_says_why(stranger.follow(callback), stranger.url)
    assert stranger.get("memo", Accept="application/json").status_code == 401


@pytest.mark.parametrize(
    "fault",
    [
        {"token": {"mode": "down"}},
        {"token": {"mode": "error"}},
        {"profile": {"mode": "down"}},
        {"profile": {"mode": "error"}},
        {"token": {"mode": "slow", "seconds": 12}},
    ],
    ids=["token down", "token error", "profile down", "profile error", "token slow"],
)
def test_provider_in_trouble_ends_on_the_page(
    visitor: Callable[[], Person], faults: Callable[[dict[str, object]], None], fault: dict[str, object]
) -> None:
    person = visitor()
    callback = person.choose(person.begin_login(), "minjun")
    faults(fault)
    page_says_why(person.follow(callback), person.url)


def test_withheld_name_logs_in(user: Callable[[str], Person]) -> None:
    person = user("nameless")
    assert person.write("이름 없는 메모").status_code == 200
    assert "이름 없는 메모" in person.memos()


def test_health_answers(visitor: Callable[[], Person]) -> None:
    assert visitor().get("alive").status_code == 200
    ready = visitor().get("ready")
    assert ready.status_code == 200
    assert ready.json()["mysql"] == "ok"
    assert ready.json()["redis"] == "ok"
