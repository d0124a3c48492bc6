"""A browser for the tests: the application's test client, and the provider's page over HTTP."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson
import requests
from flask import Flask
from werkzeug.test import TestResponse

JSON = {"Accept": "application/json"}


class Browser:
    """Follows the log-in as a person's browser does.

    Args:
        app: the application.
        naver_url: where the stand-in for Naver is.
    """

    def __init__(self, app: Flask, naver_url: str) -> None:
        self.client = app.test_client()
        self.prefix = app.extensions["memo"].settings.url_prefix
        self.cookie_name = app.extensions["memo"].settings.cookie_name
        self._naver = naver_url

    def get(self, path: str, headers: dict[str, str] | None = None) -> TestResponse:
        return self.client.get(self.prefix + path, headers=headers)

    def post(
        self,
        path: str,
        *,
        json: object = None,
        data: object = None,
        content_type: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> TestResponse:
        options = {"content_type": content_type} if content_type else {}
        if json is not None:
            return self.client.post(self.prefix + path, json=json, headers=headers)
        return self.client.post(self.prefix + path, data=data, headers=headers, **options)

    def patch(self, path: str, json: object, headers: dict[str, str] | None = None) -> TestResponse:
        return self.client.patch(self.prefix + path, json=json, headers=headers)

    def delete(self, path: str, headers: dict[str, str] | None = None) -> TestResponse:
        return self.client.delete(self.prefix + path, headers=headers)

    def authorize(self, person: str) -> str:
        """Begin a log-in and choose a person; the callback's path and query."""
        response = self.get("/login")
        assert response.status_code == 302
        answer = requests.post(response.location, data={"person": person}, allow_redirects=False, timeout=30)
        assert answer.status_code == 302, answer.text
        parts = urlsplit(answer.headers["Location"])
        return f"{parts.path}?{parts.query}"

    def log_in(self, person: str = "minjun") -> TestResponse:
        """Log in; the response to the callback."""
        return self.client.get(self.authorize(person))

    @property
    def session_key(self) -> str | None:
        """The key in the session's cookie."""
        cookie = self.client.get_cookie(self.cookie_name, path=self.prefix or "/")
        return cookie.value if cookie else None

    def set_session_key(self, value: str) -> None:
        self.client.set_cookie(self.cookie_name, value, path=self.prefix or "/")

    def texts(self) -> list[str]:
        """The texts of the first part of the list."""
        response = self.get("/memo", headers=JSON)
        assert response.status_code == 200, response.text
        return [memo["text"] for memo in body(response)["memos"]]

    def page(self) -> str:
        response = self.get("/")
        assert response.status_code == 200
        return response.text


def notice_of(response: TestResponse) -> str | None:
    """The notice a redirect to the page carries."""
    assert response.status_code in (302, 303), response.status
    parts = urlsplit(response.location)
    assert not parts.netloc
    return parse_qs(parts.query).get("notice", [None])[0]


def body(response: TestResponse) -> dict[str, Any]:
    """The JSON object in a response."""
    value: dict[str, Any] = orjson.loads(response.data)
    return value


def assert_problem(response: TestResponse, status: int) -> dict[str, Any]:
    """The response is an RFC 9457 problem with this status; its JSON."""
    assert response.status_code == status, response.text
    assert response.mimetype == "application/problem+json"
    problem = body(response)
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    return problem
