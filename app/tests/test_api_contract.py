"""Checkers that know nothing of this project question the API by its own document: Redocly CLI and Schemathesis.

Schemathesis asks with the log-in of a person and with a personal API token, at the same time, and both times a second
person looks for what is not theirs. The seed does not say all: what is asked also depends on what was answered, and
when. `MEMO_TEST_SEED=NUMBER bin/test web` asks from other seeds on.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import requests
from memo.config import Settings
from memo_testing.browser import Browser
from memo_testing.serving import served
from memo_testing.web_tools import CONFIGURATION, run

from localcloud.naver import NaverStandIn

pytestmark = [pytest.mark.web, pytest.mark.api]

SEED = 20261124
EXAMPLES = 560
"""The most requests to one operation while it is fuzzed; those that take little run out of different ones earlier."""

WORKERS = 4
"""Threads of each run, so that one waits while another asks."""

LEAST_CASES = 10_000
SECONDS = 1200
"""When a run is given up: several times what it takes on two cores."""

PEOPLE = {"session": ("minjun", "seoyeon"), "token": ("jihu", "haeun")}
"""Each run has people of its own: nobody else deletes or brings back what it has just looked at."""

CHECKS = Path(__file__).parent / "memo_testing" / "schemathesis_checks.py"


def test_the_document_is_linted(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "openapi.json"
    path.write_text(json.dumps(browser.get("/openapi.json").json, indent=2), encoding="utf-8")
    lint = run("redocly", "lint", "--config", str(CONFIGURATION / "redocly.yaml"), str(path))
    assert lint.returncode == 0, lint.stdout + lint.stderr


@dataclass
class Questioning:
    """A run of Schemathesis: its process, its folder and how it is authenticated."""

    process: subprocess.Popen[str]
    folder: Path
    kind: str

    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "report.json").read_text(encoding="utf-8"))
        return found

    def log(self) -> str:
        return (self.folder / "log").read_text(encoding="utf-8")[-20_000:]


def log_in(url: str, naver: NaverStandIn, who: str) -> requests.Session:
    session = requests.Session()
    authorize = session.get(f"{url}login", allow_redirects=False, timeout=30).headers["Location"]
    assert authorize.startswith(naver.url)
    answer = requests.post(authorize, data={"person": who}, allow_redirects=False, timeout=30)
    session.get(answer.headers["Location"], allow_redirects=False, timeout=30).raise_for_status()
    return session


def credentials(kind: str, url: str, naver: NaverStandIn) -> list[dict[str, Any]]:
    """The log-ins of a run's two people, as Web Fuzzing Commons writes them."""
    users = []
    for who in PEOPLE[kind]:
        session = log_in(url, naver, who)
        header = {"name": "Cookie", "value": f"userId={session.cookies['userId']}"}
        if kind == "token":
            made = session.post(f"{url}tokens", json={"name": "Schemathesis"}, timeout=30)
            header = {"name": "Authorization", "value": f"Bearer {made.json()['token']}"}
        users.append({"name": who, "fixedHeaders": [header]})
    return users


def begin(kind: str, url: str, naver: NaverStandIn, folder: Path, seed: int) -> Questioning:
    folder.mkdir()
    people = folder / "people.json"
    people.write_text(json.dumps({"auth": credentials(kind, url, naver)}), encoding="utf-8")
    command = [
        *(
            str(Path(sys.executable).with_name("schemathesis")),
            "--config-file",
            str(CONFIGURATION / "schemathesis.toml"),
        ),
        *("run", f"{url}openapi.json", "--auth-wfc", str(people), "--continue-on-failure"),
        *("--max-examples", str(EXAMPLES), "--workers", str(WORKERS), "--seed", str(seed), "--no-color"),
        # Made-up credentials are sent beside a session; with a token they would take the token's own place.
        *("--generation-with-security-parameters", str(kind == "session").lower()),
        *("--report", "json", "--report-json-path", str(folder / "report.json")),
    ]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": str(CHECKS)}
    with (folder / "log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, text=True
        )
    return Questioning(process, folder, kind)


def cases_without_a_finding(run: Questioning, seed: int) -> int:
    """How many cases a run that has ended made, when it found nothing."""
    assert run.process.returncode == 0, f"with a {run.kind}, seed {seed}:\n{run.log()}"
    report = run.report()
    assert report["complete"], report
    assert not report["errors"], report["errors"]
    assert not report["failures"], report["failures"]
    assert {phase["status"] for phase in report["phases"].values()} == {"success"}, report["phases"]
    assert report["operations"]["tested"] == report["operations"]["total"], report["operations"]
    assert not report["test_cases"]["errored"], run.log()
    return int(report["test_cases"]["generated"])


def test_schemathesis_finds_nothing(settings: Settings, naver: NaverStandIn, tmp_path: Path) -> None:
    seed, started = int(os.environ.get("MEMO_TEST_SEED", SEED)), time.monotonic()
    # A session must outlive the run.
    lasting = replace(settings, session_idle_seconds=3600, session_absolute_seconds=3600, log_level="WARNING")
    cases = 0
    with ExitStack() as stack:
        urls = {kind: stack.enter_context(served(lasting)) for kind in PEOPLE}
        # Chance says how long the sequences of the stateful phase are: rounds of 6,942 and of 11,134 cases were seen.
        while cases < LEAST_CASES:
            runs: list[Questioning] = []
            try:
                for kind, url in urls.items():
                    runs.append(begin(kind, url, naver, tmp_path / f"{kind}-{seed}", seed))
                for each in runs:
                    each.process.wait(SECONDS)
            finally:
                for each in runs:
                    each.process.kill()
                    each.process.wait()
            cases += sum(cases_without_a_finding(each, seed) for each in runs)
            seed += 1
    print(f"\nSchemathesis, seeds up to {seed - 1}: {cases} cases in {time.monotonic() - started:.0f} s, nothing found")
