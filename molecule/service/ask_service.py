"""Ask nginx, uWSGI and the application together, from another host, what no test of the application alone can see.

Arguments: the web host's address, and the metrics' port. Prints the ids of requests whose lines must be in the logs.
"""

from __future__ import annotations

import json
import re
import secrets
import sys
from concurrent.futures import ThreadPoolExecutor

import requests
from prometheus_client.parser import text_string_to_metric_families

TIMEOUT = 30
WORKERS, POOL = 2, 5
"""What role memo_app and memo/config.py have by default."""

REQUESTS = 60
HEADERS = {
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
OVER_TLS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
}
TRACE = f"Self=1-67891233-12456789abcdef012345678;Root=1-67891233-{secrets.token_hex(12)}"
OURS = re.compile(r"[0-9a-f]{32}")


def ask(method: str, url: str, status: int, **options: object) -> requests.Response:
    """One request, whose answer must have a status."""
    answer = requests.request(method, url, timeout=TIMEOUT, allow_redirects=False, **options)  # type: ignore[arg-type]
    if answer.status_code != status:
        sys.exit(f"{method} {url}: {answer.status_code} instead of {status}: {answer.text[:300]}")
    return answer


def check(condition: bool, what: str) -> None:
    """Stop with a sentence when something is not so."""
    if not condition:
        sys.exit(what)


def headers(web: str) -> None:
    """What nginx answers itself tells browsers the same as what the application answers."""
    policy = ask("GET", f"{web}/memo/", 200).headers["Content-Security-Policy"]
    check("unsafe" not in policy, policy)
    nginx = [
        ("GET", "/", 302, b""),
        ("GET", "/memo", 308, b""),
        ("GET", "/nothing", 404, b""),
        ("GET", "/memo/static/memo.js", 200, b""),
        ("GET", "/memo/static/nothing", 404, b""),
        ("DELETE", "/memo/static/memo.js", 403, b""),
        ("POST", "/memo/memo", 413, b"x" * 1_100_000),
        ("POST", "/memo/import", 413, b"x" * 11_600_000),
    ]
    for method, path, status, body in nginx:
        for over_tls in (False, True):
            given = {"X-Forwarded-Proto": "https"} if over_tls else {}
            answer = ask(method, web + path, status, data=body, headers=given)
            wanted = HEADERS | {"Content-Security-Policy": policy} | (OVER_TLS if over_tls else {})
            found = {name: answer.headers.get(name) for name in wanted}
            check(found == wanted, f"{method} {path}: {found}")
            check(over_tls or not set(OVER_TLS) & set(answer.headers), f"{method} {path}: {answer.headers}")
            check(bool(OURS.fullmatch(answer.headers["X-Request-Id"])), f"{method} {path}: {answer.headers}")
            check(answer.headers["Server"] == "nginx", f"{method} {path}: {answer.headers}")
    # No proxy is trusted on this host, so the application does not believe a client that says it speaks https.
    answer = ask("GET", f"{web}/memo/", 200, headers={"X-Forwarded-Proto": "https"})
    check("Strict-Transport-Security" not in answer.headers, str(answer.headers))


def bodies(web: str) -> None:
    """nginx refuses what is larger than the application takes: more for a file to import than elsewhere."""
    answer = ask("POST", f"{web}/memo/memo", 413, data=b"x" * 1_100_000)
    check("at most 1m bytes" in answer.json()["detail"], answer.text)
    answer = ask("POST", f"{web}/memo/import", 413, data=b"x" * 11_600_000)
    check("at most 11m bytes" in answer.json()["detail"], answer.text)


def ids(web: str) -> list[str]:
    """Every answer carries the request's id, once: the balancer's, else the client's, else one of nginx's.

    Returns:
        The ids of requests that the application answered; the last was slow enough for uWSGI's log.
    """
    path = f"{web}/memo/openapi.json"
    for name in ("X-Amzn-Trace-Id", "X-Request-Id"):
        check(ask("GET", path, 200, headers={name: TRACE}).headers["X-Request-Id"] == TRACE, name)
        strange = ask("GET", path, 200, headers={name: 'a "quoted" id'}).headers["X-Request-Id"]
        check(bool(OURS.fullmatch(strange)), f"{name}: {strange}")
    slow = ask("POST", f"{web}/memo/import", 303, files={"file": ("memos.json", b"x" * 10_000_000)})
    return [TRACE, strange, ask("GET", path, 200).headers["X-Request-Id"], slow.headers["X-Request-Id"]]


def metrics(web: str, port: int) -> None:
    """Requests are counted by all workers together, and nobody reads the numbers but on that port."""
    address = f"{web}:{port}/metrics"

    def scrape() -> dict[str, float]:
        families = text_string_to_metric_families(ask("GET", address, 200).text)
        return {
            f"{sample.name} {sample.labels.get('method', '')} {sample.labels.get('route', '')}".strip(): sample.value
            for family in families
            for sample in family.samples
            if not sample.name.endswith("_bucket")
        }

    before = scrape()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: ask("GET", f"{web}/memo/openapi.json", 200), range(REQUESTS)))
    after = scrape()
    for name in ("memo_responses_total", "memo_request_duration_seconds_count"):
        key = f"{name} GET /memo/openapi.json"
        more = after[key] - before.get(key, 0)
        check(more == REQUESTS, f"{key}: {more} more, not {REQUESTS}")
    check(after["memo_database_pool_size"] == WORKERS * POOL, f"not all workers count: {after}")
    check("memo_build_info" in after, str(after))
    for path in (f"{web}/metrics", f"{web}/memo/metrics", f"{web}:8000/metrics", f"{web}:8000/memo/metrics"):
        ask("GET", path, 404, headers={"MEMO-METRICS": "1"})
    ask("GET", f"{web}:{port}/memo/", 404)
    ask("POST", address, 403)


def main() -> None:
    """All of it."""
    web, port = f"http://{sys.argv[1]}", int(sys.argv[2])
    headers(web)
    bodies(web)
    metrics(web, port)
    print(json.dumps(ids(web)))


if __name__ == "__main__":
    main()
