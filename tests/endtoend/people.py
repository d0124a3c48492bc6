"""People who use the service through the load balancer: a browser's cookies and redirects, without the browser."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

import requests

from endtoend.stack import Stack
from endtoend.waiting import until

TIMEOUT = 30


@dataclass
class Person:
    """Somebody with a cookie jar.

    Args:
        url: the service's page, with the slash at the end.
    """

    url: str
    session: requests.Session = field(default_factory=requests.Session)

    def get(self, path: str = "", **headers: str) -> requests.Response:
        """GET a path relative to the page, without following redirects."""
        return self.session.get(self.url + path, headers=headers, timeout=TIMEOUT, allow_redirects=False)

    def begin_login(self) -> str:
        """Ask to log in.

        Returns:
            The provider's address that the service sends to.
        """
        answer = self.get("login")
        assert answer.status_code == 302, answer.status_code
        return answer.headers["Location"]

    def choose(self, authorize_url: str, who: str) -> str:
        """Pick who to be on the provider's page.

        Returns:
            The callback's address.
        """
        answer = requests.post(authorize_url, data={"person": who}, timeout=TIMEOUT, allow_redirects=False)
        assert answer.status_code == 302, answer.text
        return answer.headers["Location"]

    def follow(self, url: str) -> requests.Response:
        """Open an address and follow redirects, as a browser does."""
        return self.session.get(url, timeout=TIMEOUT, headers={"Accept": "text/html"})

    def login(self, who: str) -> requests.Response:
        """Log in through the provider.

        Returns:
            The page one ends on.
        """
        return self.follow(self.choose(self.begin_login(), who))

    def memos(self) -> list[str]:
        """The texts of all memos, newest first, over all pages."""
        texts: list[str] = []
        path = "memo"
        for _ in range(100):
            answer = self.get(path, Accept="application/json")
            assert answer.status_code == 200, f"{answer.status_code}: {answer.text}"
            body = answer.json()
            texts += [memo["text"] for memo in body["memos"]]
            following = body.get("next")
            if not following:
                return texts
            path = f"memo?cursor={following}"
        raise AssertionError("the list of memos has no end")

    def write(self, text: str) -> requests.Response:
        """Write a memo."""
        return self.session.post(self.url + "memo", json={"text": text}, timeout=TIMEOUT, allow_redirects=False)


def crowd(stack: Stack, number: int) -> list[Person]:
    """So many people who are logged in."""
    found = []
    for each in range(number):
        key = f"crowd-{each}"
        answer = requests.put(
            f"{stack.settings.naver_url}/_standin/people/{key}", json={"name": f"사람 {each}"}, timeout=10
        )
        answer.raise_for_status()
        person = Person(stack.url)
        assert person.login(key).status_code == 200
        found.append(person)
    return found


def query(url: str) -> dict[str, str]:
    """The parameters of an address."""
    return {key: values[0] for key, values in parse_qs(urlsplit(url).query).items()}


def until_steady(person: Person, timeout: float = 180) -> None:
    """Until nobody was refused for three seconds.

    Each process of the service notices the end of an outage by itself, on its own next request and up to a second late
    (memo/breaker.py), so one good answer says nothing of the next.
    """
    good_since = time.monotonic()

    def steady() -> bool:
        nonlocal good_since
        try:
            good = person.get("ready").status_code == 200
        except requests.RequestException:
            good = False
        if not good:
            good_since = time.monotonic()
        return time.monotonic() - good_since > 3

    until(steady, "a service that is ready", timeout=timeout, poll=0.1)
