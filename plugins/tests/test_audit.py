"""bin/audit with the real pip-audit, against a service of our own on loopback that answers as OSV does (its API's
documentation, "POST /v1/query")."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCK = "".join(
    f"{name}=={version} --hash=sha256:{'0' * 64}\n" for name, version in (("flask", "0.5"), ("redis", "5.0.0"))
)
KNOWN = {
    "vulns": [
        {
            "id": "PYSEC-2018-66",
            "aliases": ["CVE-2018-1000656"],
            "summary": "…",
            "affected": [
                {
                    "package": {"name": "flask", "ecosystem": "PyPI"},
                    "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "0.12.3"}]}],
                }
            ],
        }
    ]
}

Audit = Callable[..., subprocess.CompletedProcess[str]]


class _Service(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        body = json.dumps(KNOWN if asked["package"]["name"] == "flask" else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Service)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1/query"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def audit(tmp_path: Path) -> Audit:
    (tmp_path / "lock.txt").write_text(LOCK, encoding="utf-8")

    def run(url: str, waivers: str = "") -> subprocess.CompletedProcess[str]:
        (tmp_path / "waivers.toml").write_text(waivers, encoding="utf-8")
        options = ["--osv-url", url, "--lock", str(tmp_path / "lock.txt"), "--waivers", str(tmp_path / "waivers.toml")]
        command = [sys.executable, str(ROOT / "bin/audit"), *options]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    return run


def waiver(until: str) -> str:
    return f'[[waiver]]\nid = "CVE-2018-1000656"\nreason = "Nobody calls it."\nuntil = {until}\n'


def test_a_vulnerable_package_fails_and_names_the_fix(audit: Audit, service: str) -> None:
    done = audit(service)
    assert done.returncode == 1
    assert "vulnerable: flask 0.5: PYSEC-2018-66, CVE-2018-1000656; mended in 0.12.3" in done.stderr
    assert "2 packages looked up, 1 vulnerabilities" in done.stdout


def test_a_waiver_counts_until_its_day(audit: Audit, service: str) -> None:
    done = audit(service, waiver("2999-01-01"))
    assert done.returncode == 0, done.stderr
    assert "waived: flask 0.5: PYSEC-2018-66, CVE-2018-1000656: Nobody calls it." in done.stdout
    done = audit(service, waiver("2020-01-01"))
    assert done.returncode == 1
    assert "ended on 2020-01-01" in done.stderr
    done = audit(service, '[[waiver]]\nid = "CVE-2018-1000656"\n')
    assert done.returncode == 1
    assert "needs an id, a reason and a day" in done.stderr


def test_a_service_that_does_not_answer_is_said_to_be_so(audit: Audit) -> None:
    done = audit("http://127.0.0.1:9/v1/query")
    assert done.returncode == 0, done.stderr
    assert "the service does not answer" in done.stdout
    assert done.stdout.startswith("not audited: ")
    assert "looked up" not in done.stdout


def test_a_broken_lock_file_is_no_outage(audit: Audit, service: str, tmp_path: Path) -> None:
    (tmp_path / "lock.txt").write_text("flask\n", encoding="utf-8")
    done = audit(service)
    assert done.returncode == 1
    assert "pip-audit does not work on" in done.stderr


def test_lint_runs_it() -> None:
    assert 'step "known vulnerabilities" bin/audit' in (ROOT / "bin/test").read_text(encoding="utf-8")
