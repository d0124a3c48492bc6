"""The Naver stand-in does what Naver's documentation says, also where that surprises."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from localcloud.naver import LOCAL_CLIENT, PEOPLE, NaverStandIn, NaverStandInError

CALLBACK = "http://lb.example/memo/auth"
APPLICATION = {"client_id": LOCAL_CLIENT.id, "client_secret": LOCAL_CLIENT.secret}


@pytest.fixture
def standin() -> Iterator[NaverStandIn]:
    server = NaverStandIn()
    server.start()
    yield server
    server.stop()


def authorize(standin: NaverStandIn, person: str, **changes: str) -> requests.Response:
    query = {"response_type": "code", "client_id": LOCAL_CLIENT.id, "redirect_uri": CALLBACK, "state": "s1"} | changes
    return requests.post(
        f"{standin.url}/oauth2.0/authorize", params=query, data={"person": person}, allow_redirects=False, timeout=60
    )


def callback(response: requests.Response) -> dict[str, str]:
    assert response.status_code == 302
    assert response.headers["Location"].startswith(CALLBACK + "?")
    return {key: values[0] for key, values in parse_qs(urlsplit(response.headers["Location"]).query).items()}


def token(standin: NaverStandIn, method: str = "POST", **values: str) -> requests.Response:
    where = {"params": values} if method == "GET" else {"data": values}
    return requests.request(method, f"{standin.url}/oauth2.0/token", timeout=60, **where)  # type: ignore[arg-type]


def redeem(standin: NaverStandIn, person: str = "minjun", method: str = "POST") -> dict[str, str]:
    back = callback(authorize(standin, person))
    answer = token(standin, method, grant_type="authorization_code", **APPLICATION, **back)
    assert answer.status_code == 200
    body: dict[str, str] = answer.json()
    return body


def me(standin: NaverStandIn, header: str | None) -> requests.Response:
    headers = {} if header is None else {"Authorization": header}
    return requests.get(f"{standin.url}/v1/nid/me", headers=headers, timeout=60)


def test_page_offers_everyone_and_a_refusal(standin: NaverStandIn) -> None:
    query = {"response_type": "code", "client_id": LOCAL_CLIENT.id, "redirect_uri": CALLBACK, "state": "s1"}
    page = requests.get(f"{standin.url}/oauth2.0/authorize", params=query, timeout=60)
    assert page.status_code == 200
    for key, name in PEOPLE.items():
        assert f'value="{key}"' in page.text
        assert name is None or name in page.text
    assert 'value="refuse"' in page.text


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_code_becomes_tokens_and_tokens_a_profile(standin: NaverStandIn, method: str) -> None:
    tokens = redeem(standin, "seoyeon", method)
    assert tokens["token_type"] == "bearer"
    assert tokens["expires_in"] == "3600"
    profile = me(standin, f"Bearer {tokens['access_token']}").json()
    assert profile["resultcode"] == "00"
    assert profile["response"]["name"] == "이서연"
    assert 0 < len(profile["response"]["id"]) <= 64


def test_withheld_name_is_absent(standin: NaverStandIn) -> None:
    tokens = redeem(standin, "nameless")
    assert set(me(standin, f"Bearer {tokens['access_token']}").json()["response"]) == {"id"}


def test_refusal_returns_an_error_and_the_state(standin: NaverStandIn) -> None:
    assert callback(authorize(standin, "refuse")) == {
        "error": "access_denied",
        "error_description": "Canceled By User",
        "state": "s1",
    }


def test_code_works_once_and_the_error_has_status_200(standin: NaverStandIn) -> None:
    back = callback(authorize(standin, "minjun"))
    first = token(standin, grant_type="authorization_code", **APPLICATION, **back)
    second = token(standin, grant_type="authorization_code", **APPLICATION, **back)
    assert "access_token" in first.json()
    assert second.status_code == 200
    assert second.json() == {"error": "invalid_request", "error_description": "no valid data in session"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"state": "another"},
        {"code": "made-up"},
        {"redirect_uri": "http://elsewhere.example/auth"},
        {"client_secret": "wrong"},
        {"client_id": "wrong"},
        {"grant_type": "password"},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_token_request_with_something_wrong(standin: NaverStandIn, wrong: dict[str, str]) -> None:
    right = {"grant_type": "authorization_code", **APPLICATION, **callback(authorize(standin, "minjun"))}
    answer = token(standin, **(right | wrong))
    assert answer.status_code == 200
    assert set(answer.json()) == {"error", "error_description"}


def test_state_is_required(standin: NaverStandIn) -> None:
    back = callback(authorize(standin, "minjun"))
    answer = token(standin, grant_type="authorization_code", **APPLICATION, code=back["code"])
    assert answer.json()["error"] == "invalid_request"
    assert authorize(standin, "minjun", state="").status_code == 400


@pytest.mark.parametrize(
    "changes", [{"client_id": "x"}, {"redirect_uri": "javascript:alert(1)"}, {"response_type": "token"}]
)
def test_authorize_refuses_what_it_cannot_answer(standin: NaverStandIn, changes: dict[str, str]) -> None:
    assert authorize(standin, "minjun", **changes).status_code == 400


def test_only_registered_callbacks_when_some_are() -> None:
    server = NaverStandIn(callback_urls=frozenset({CALLBACK}))
    server.start()
    try:
        assert authorize(server, "minjun").status_code == 302
        assert authorize(server, "minjun", redirect_uri=CALLBACK + "2").status_code == 400
    finally:
        server.stop()


def test_profile_errors(standin: NaverStandIn) -> None:
    assert (me(standin, None).status_code, me(standin, None).json()["resultcode"]) == (401, "028")
    assert (me(standin, "Bearer x").status_code, me(standin, "Bearer x").json()["resultcode"]) == (401, "024")


def test_refresh_replaces_the_access_token(standin: NaverStandIn) -> None:
    tokens = redeem(standin)
    new = token(standin, grant_type="refresh_token", **APPLICATION, refresh_token=tokens["refresh_token"]).json()
    assert set(new) == {"access_token", "token_type", "expires_in"}
    assert me(standin, f"Bearer {new['access_token']}").status_code == 200
    assert me(standin, f"Bearer {tokens['access_token']}").status_code == 401


def test_delete_and_revoke_end_both_tokens(standin: NaverStandIn) -> None:
    tokens = redeem(standin)
    answer = token(standin, grant_type="delete", **APPLICATION, access_token=tokens["access_token"]).json()
    assert answer == {"access_token": tokens["access_token"], "result": "success"}
    tokens = redeem(standin)
    revoked = requests.post(
        f"{standin.url}/oauth2.0/revoke", data={**APPLICATION, "token": tokens["refresh_token"]}, timeout=60
    )
    assert (revoked.status_code, revoked.content) == (200, b"")
    assert me(standin, f"Bearer {tokens['access_token']}").status_code == 401


def test_faults(standin: NaverStandIn) -> None:
    admin = f"{standin.url}/_standin/faults"
    assert requests.put(admin, json={"profile": {"mode": "error", "status": 503}, "token": "down"}, timeout=60).ok
    assert me(standin, "Bearer x").status_code == 503
    with pytest.raises(requests.ConnectionError):
        token(standin)
    assert requests.put(admin, json={"profile": {"mode": "slow", "seconds": 10}}, timeout=60).ok
    with pytest.raises(requests.ReadTimeout):
        requests.get(f"{standin.url}/v1/nid/me", timeout=(60, 0.3))
    assert requests.delete(admin, timeout=60).json() == {}
    assert me(standin, "Bearer x").status_code == 401
    for wrong in ({"login": "down"}, {"token": "tired"}, ["token"]):
        assert requests.put(admin, json=wrong, timeout=60).status_code == 400


def test_a_name_can_change(standin: NaverStandIn) -> None:
    tokens = redeem(standin)
    header = f"Bearer {tokens['access_token']}"
    before = me(standin, header).json()["response"]
    assert requests.put(f"{standin.url}/_standin/people/minjun", json={"name": "김새롬"}, timeout=60).ok
    assert me(standin, header).json()["response"] == {"id": before["id"], "name": "김새롬"}


def test_port_in_use_names_the_port() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(NaverStandInError, match=str(port)):
            NaverStandIn(port=port).start()
