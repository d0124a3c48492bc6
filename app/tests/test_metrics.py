"""The metrics: what counts where, that no label is an address, that workers add up, and that no client gets there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from flask import Flask
from flask.testing import FlaskClient
from memo import metrics
from memo.models import db
from memo_testing.browser import JSON, Browser
from prometheus_client.parser import text_string_to_metric_families

from localcloud.naver import NaverStandIn

APP = Path(__file__).parents[1]

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def samples(text: str) -> Samples:
    """Every line of Prometheus' text format: name and labels → value."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class Scrape:
    """What Prometheus gets of an application, as far as it changed since this was made."""

    def __init__(self, app: Flask) -> None:
        self._client = app.test_client()
        self._before = self.now()

    def now(self) -> Samples:
        response = self._client.get("/metrics", environ_overrides={metrics.MARK: "1"})
        assert response.status_code == 200
        assert response.mimetype == "text/plain"
        return samples(response.text)

    def more(self, name: str, **labels: str) -> float:
        """By how much a value grew."""
        key = (name, frozenset(labels.items()))
        return self.now().get(key, 0) - self._before.get(key, 0)


@pytest.fixture
def scrape(app: Flask) -> Scrape:
    return Scrape(app)


def test_a_request_is_counted_and_timed(browser: Browser, scrape: Scrape) -> None:
    assert browser.get("/memo", headers=JSON).status_code == 401
    where = {"method": "GET", "route": "/memo/memo"}
    assert scrape.more("memo_responses_total", status="4xx", **where) == 1
    assert scrape.more("memo_request_duration_seconds_count", **where) == 1
    assert scrape.more("memo_request_duration_seconds_bucket", le="+Inf", **where) == 1
    assert 0 < scrape.more("memo_request_duration_seconds_sum", **where) < 10


def test_labels_are_routes_and_methods_of_ours(browser: Browser, scrape: Scrape) -> None:
    for number in range(30):
        browser.get(f"/memo/{number}")
        browser.get(f"/nothing-{number}")
    browser.client.open("/memo/", method="BREW")
    metrics.request_done("GET", "/memo/memo/17", 200, 0.1)
    assert scrape.more("memo_responses_total", method="GET", route="/memo/memo/<memo_id>", status="3xx") == 30
    assert scrape.more("memo_responses_total", method="GET", route="(none)", status="4xx") == 30
    assert scrape.more("memo_responses_total", method="GET", route="(none)", status="2xx") == 1
    assert scrape.more("memo_responses_total", method="(other)", route="(none)", status="4xx") == 1
    assert not [key for key in scrape.now() if "17" in str(key[1]) or "nothing" in str(key[1]) or "BREW" in str(key[1])]


def test_an_unexpected_error_counts(make_app: Callable[..., Flask], naver: NaverStandIn) -> None:
    app = make_app()
    scrape = Scrape(app)

    def fail(user_id: str) -> None:
        raise RuntimeError

    app.extensions["memo"].tokens.of = fail
    browser = Browser(app, naver.url)
    browser.log_in()
    assert browser.get("/tokens", headers=JSON).status_code == 500
    assert scrape.more("memo_responses_total", method="GET", route="/memo/tokens", status="5xx") == 1


@pytest.mark.parametrize(
    ("changes", "path", "dependency"),
    [
        ({"database_host": "127.0.0.1", "database_port": 1}, "/ready", "mysql"),
        ({"redis_host": "127.0.0.1", "redis_port": 1}, "/ready", "redis"),
        ({"redis_host": "127.0.0.1", "redis_port": 1}, "/login", "redis"),
    ],
)
def test_a_dependency_that_is_down_counts(
    make_app: Callable[..., Flask], changes: dict[str, object], path: str, dependency: str
) -> None:
    app = make_app(**changes)
    scrape = Scrape(app)
    assert app.test_client().get(f"/memo{path}").status_code == 503
    counted = {name: scrape.more("memo_dependency_failures_total", dependency=name) for name in metrics.DEPENDENCIES}
    assert counted == {name: float(name == dependency) for name in metrics.DEPENDENCIES}


def test_log_ins_count_by_outcome(browser: Browser, naver: NaverStandIn, scrape: Scrape) -> None:
    browser.log_in()
    browser.log_in("refuse")
    browser.get("/auth?state=x&code=y")
    requests.put(f"{naver.url}/_standin/faults", json={"profile": {"mode": "down"}}, timeout=30).raise_for_status()
    browser.log_in()
    counted = {outcome: scrape.more("memo_logins_total", outcome=outcome) for outcome in metrics.LOGIN_OUTCOMES}
    assert counted == {"success": 1, "refused": 1, "state": 1, "unavailable": 1, "rejected": 0}
    assert scrape.more("memo_dependency_failures_total", dependency="naver") == 1


def test_a_cache_counts_hits_and_misses(scrape: Scrape) -> None:
    for hit in (True, True, False):
        metrics.cache_asked("test", hit)
    assert scrape.more("memo_cache_requests_total", cache="test", result="hit") == 2
    assert scrape.more("memo_cache_requests_total", cache="test", result="miss") == 1


def test_the_pool_is_watched(make_app: Callable[..., Flask]) -> None:
    app = make_app(database_pool_size=2)
    scrape = Scrape(app)

    def pool() -> dict[str, float]:
        now = scrape.now()
        return {word: now[f"memo_database_pool_{word}", frozenset()] for word in ("in_use", "open", "size", "overflow")}

    assert pool() == {"in_use": 0, "open": 0, "size": 2, "overflow": 0}
    with app.app_context():
        connections = [db.engine.connect() for _ in range(3)]
        assert pool() == {"in_use": 3, "open": 3, "size": 2, "overflow": 1}
        for connection in connections:
            connection.close()
        assert pool() == {"in_use": 0, "open": 2, "size": 2, "overflow": 0}
        broken = db.engine.connect()
        broken.invalidate()
        broken.close()
        assert pool() == {"in_use": 0, "open": 1, "size": 2, "overflow": 0}
        db.engine.dispose()
        assert pool() == {"in_use": 0, "open": 0, "size": 2, "overflow": 0}


def test_no_client_gets_there(client: FlaskClient) -> None:
    for headers in ({}, {"MEMO_METRICS": "1"}, {"Memo-Metrics": "1"}, {"Host": "metrics"}):
        for path in ("/metrics", "/memo/metrics"):
            response = client.get(path, headers=headers)
            assert response.status_code == 404
            assert "memo_responses" not in response.text


def test_what_runs_is_told(scrape: Scrape) -> None:
    (labels,) = [dict(labels) for name, labels in scrape.now() if name == "memo_build_info"]
    assert labels == {"release": "checkout", "python": ".".join(map(str, sys.version_info[:3]))}


WORKER = """
import sys, types
sys.modules["uwsgi"] = types.SimpleNamespace(worker_id=lambda: int(sys.argv[1]))
from flask import Flask
from memo import create_app, metrics
from memo.config import Settings
app = create_app(Settings(database_host="127.0.0.1", database_password="x", redis_host="127.0.0.1", redis_password="x",
                          secret_key="k" * 40, naver_client_id="x", naver_client_secret="x"))
client = app.test_client()
for _ in range(int(sys.argv[2])):
    client.get("/memo/openapi.json")
print(client.get("/metrics", environ_overrides={metrics.MARK: "1"}).text)
"""


def test_workers_add_up_and_a_replaced_one_goes_on(tmp_path: Path) -> None:
    def run(worker: int, requests_: int) -> Samples:
        environment = {"PATH": os.environ["PATH"], "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
        command = [sys.executable, "-c", WORKER, str(worker), str(requests_)]
        done = subprocess.run(
            command, cwd=APP, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return samples("\n".join(line for line in done.stdout.splitlines() if not line.startswith("{")))

    total = (
        "memo_responses_total",
        frozenset({"method": "GET", "route": "/memo/openapi.json", "status": "2xx"}.items()),
    )
    assert run(1, 3)[total] == 3
    assert run(2, 4)[total] == 7
    found = run(1, 5)
    assert found[total] == 12
    assert found["memo_database_pool_size", frozenset()] == 10  # of two workers, not of three processes
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{kind}_{worker}.db" for kind in ("counter", "gauge_livesum", "histogram") for worker in (1, 2)
    }
