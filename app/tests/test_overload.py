"""What waited too long for a worker is refused before any work is done for it."""

from __future__ import annotations

import pytest
from memo.overload import LIMIT_SECONDS, STAMP, Shed
from werkzeug.test import Client, TestResponse
from werkzeug.wrappers import Response

NOW = 1_700_000_000.0


def ask(stamp: str | None) -> TestResponse:
    client = Client(Shed(Response("served"), clock=lambda: NOW))
    return client.get("/", environ_overrides={} if stamp is None else {STAMP: stamp})


@pytest.mark.parametrize("waited", [None, "", f"{NOW - LIMIT_SECONDS / 2:.3f}", f"{NOW + 5:.3f}"])
def test_served(waited: str | None) -> None:
    assert ask(waited).text == "served"


def test_refused() -> None:
    answer = ask(f"{NOW - LIMIT_SECONDS - 0.1:.3f}")
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.mimetype == "application/problem+json"
    assert answer.json is not None
    assert answer.json["status"] == 503


def test_a_client_cannot_stamp() -> None:
    client = Client(Shed(Response("served"), clock=lambda: NOW))
    assert client.get("/", headers={STAMP: "1", STAMP.replace("_", "-"): "1"}).text == "served"
