"""The health checks, against real sockets, and the state machine behind them, on a clock of its own."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from localcloud.model import DesiredTarget, DesiredTargetGroup, HealthCheck, HealthState, TargetHealth
from localcloud.probes import ProbedGroup, ProbeResult, Probes, http_probe, matches
from localcloud.tests.ports import bound

ARN = "arn:aws:elasticloadbalancing:ap-northeast-2:123456789012:targetgroup/web/1"
BAD = TargetHealth(HealthState.UNHEALTHY, "Target.Timeout", "Request timed out")


@contextmanager
def answering(answer: bytes | None) -> Iterator[tuple[int, list[bytes], list[str]]]:
    """A server that says one thing to everyone (None: nothing, ever)."""
    requests: list[bytes] = []
    callers: list[str] = []
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)

        def serve() -> None:
            while not done.is_set():
                try:
                    connection, caller = server.accept()
                except TimeoutError:
                    continue
                with connection:
                    callers.append(caller[0])
                    requests.append(connection.recv(4096))
                    if answer is None:
                        done.wait()
                    else:
                        connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1], requests, callers
        finally:
            done.set()
            thread.join()


@pytest.mark.parametrize(
    ("matcher", "status", "expected"),
    [("200", 200, True), ("200", 204, False), ("200,302", 302, True), ("200-299", 250, True), ("200-299", 300, False)],
)
def test_matcher(matcher: str, status: int, expected: bool) -> None:
    assert matches(matcher, status) is expected


def test_a_probe_passes_and_comes_from_the_balancers_address() -> None:
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as (port, requests, callers):
        result = http_probe("127.0.0.1", port, HealthCheck(path="/memo/alive", timeout=60), "127.0.0.9")
    assert result.passed
    assert callers == ["127.0.0.9"]
    assert requests[0].startswith(b"GET /memo/alive HTTP/1.1\r\n")
    assert b"User-Agent: ELB-HealthChecker/2.0\r\n" in requests[0]


@pytest.mark.parametrize(
    ("answer", "reason", "description"),
    [
        (
            b"HTTP/1.1 502 Bad Gateway\r\n\r\n",
            "Target.ResponseCodeMismatch",
            "Health checks failed with these codes: [502]",
        ),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "Target.FailedHealthChecks", "Health checks failed"),
        (b"", "Target.FailedHealthChecks", "Health checks failed"),
        (None, "Target.Timeout", "Request timed out"),
    ],
)
def test_a_probe_fails_in_awss_words(answer: bytes | None, reason: str, description: str) -> None:
    # Short only where nothing comes: a busy machine may take its time to say something.
    timeout = 1 if answer is None else 60
    with answering(answer) as (port, _, _):
        result = http_probe("127.0.0.1", port, HealthCheck(timeout=timeout), "127.0.0.1")
    assert result.failure == TargetHealth(HealthState.UNHEALTHY, reason, description)


def test_a_refused_connection_is_a_failed_health_check() -> None:
    with bound() as closed:
        failure = http_probe("127.0.0.1", closed.getsockname()[1], HealthCheck(timeout=60), "127.0.0.1").failure
    assert failure is not None
    assert failure.reason == "Target.FailedHealthChecks"


class Script:
    """A probe that gives what the test wants next, and time that moves when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self.result = ProbeResult()
        self.calls = 0

    def __call__(self, address: str, port: int, check: HealthCheck, source: str) -> ProbeResult:
        # Read first: who waits for the call may set the next one's result at once.
        result = self.result
        self.calls += 1
        return result

    def clock(self) -> float:
        return self.now


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.005)


GROUP = DesiredTargetGroup(
    ARN,
    "web",
    "HTTP",
    80,
    HealthCheck(interval=10, healthy_threshold=3, unhealthy_threshold=2),
    (DesiredTarget("i-1", "10.0.0.1", 80),),
    deregistration_delay=30,
)


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def probes(script: Script) -> Iterator[Probes]:
    probes = Probes(script, script.clock)
    probes.start()
    yield probes
    probes.stop()


def health(probes: Probes) -> TargetHealth | None:
    return probes.health(ARN).get("i-1:80")


def judged(probes: Probes, script: Script, calls: int) -> bool:
    """Whether so many checks have been made and what came of the last one has been taken in."""
    with probes._wake:
        under_way = any(record.running for records in probes._records.values() for record in records.values())
    return script.calls == calls and not under_way


def advance(probes: Probes, script: Script, result: ProbeResult, group: DesiredTargetGroup = GROUP) -> None:
    """Let one interval pass and one check happen."""
    calls = script.calls
    script.result = result
    script.now += 10
    probes.sync([ProbedGroup(group, "10.0.0.9")])
    wait_for(lambda: judged(probes, script, calls + 1))


def test_one_pass_makes_a_new_target_healthy_and_thresholds_rule_afterwards(probes: Probes, script: Script) -> None:
    probes.sync([ProbedGroup(GROUP, "10.0.0.9")])
    wait_for(lambda: health(probes) == TargetHealth(HealthState.HEALTHY))
    advance(probes, script, ProbeResult(BAD))
    advance(probes, script, ProbeResult())
    advance(probes, script, ProbeResult(BAD))
    assert health(probes) == TargetHealth(HealthState.HEALTHY)
    advance(probes, script, ProbeResult(BAD))
    assert health(probes) == BAD
    advance(probes, script, ProbeResult())
    advance(probes, script, ProbeResult())
    assert health(probes) == BAD
    advance(probes, script, ProbeResult())
    assert health(probes) == TargetHealth(HealthState.HEALTHY)


def test_a_new_target_that_fails_is_initial_until_the_threshold(probes: Probes, script: Script) -> None:
    script.result = ProbeResult(BAD)
    probes.sync([ProbedGroup(GROUP, "10.0.0.9")])
    wait_for(lambda: judged(probes, script, 1))
    current = health(probes)
    assert current is not None
    assert (current.state, current.reason) == (HealthState.INITIAL, "Elb.InitialHealthChecking")
    advance(probes, script, ProbeResult(BAD))
    assert health(probes) == BAD


def test_unused_without_a_load_balancer_and_without_an_instance(probes: Probes) -> None:
    probes.sync([ProbedGroup(GROUP, None)])
    current = health(probes)
    assert current is not None
    assert current.reason == "Target.NotInUse"
    stopped = replace(GROUP, targets=(DesiredTarget("i-1", None, 80),))
    probes.sync([ProbedGroup(stopped, "10.0.0.9")])
    current = health(probes)
    assert current is not None
    assert current.reason == "Target.InvalidState"


def test_a_deregistered_target_drains_until_it_is_said_to_be_done(probes: Probes, script: Script) -> None:
    probes.sync([ProbedGroup(GROUP, "10.0.0.9")])
    wait_for(lambda: health(probes) == TargetHealth(HealthState.HEALTHY))
    probes.sync([ProbedGroup(replace(GROUP, targets=()), "10.0.0.9")])
    current = health(probes)
    assert current is not None
    assert (current.state, current.reason) == (HealthState.DRAINING, "Target.DeregistrationInProgress")
    assert [target.drain_until for target in probes.targets(ARN)] == [script.now + 30]
    probes.drained(ARN, "i-1:80")
    assert probes.health(ARN) == {}


def test_registered_again_while_draining_begins_anew(probes: Probes, script: Script) -> None:
    probes.sync([ProbedGroup(GROUP, "10.0.0.9")])
    wait_for(lambda: health(probes) == TargetHealth(HealthState.HEALTHY))
    probes.sync([ProbedGroup(replace(GROUP, targets=()), "10.0.0.9")])
    script.result = ProbeResult(BAD)
    probes.sync([ProbedGroup(GROUP, "10.0.0.9")])
    current = health(probes)
    assert current is not None
    assert current.state == HealthState.INITIAL


def test_a_probe_that_breaks_is_an_internal_error_not_a_silent_stop(script: Script) -> None:
    def broken(address: str, port: int, check: HealthCheck, source: str) -> ProbeResult:
        raise ZeroDivisionError

    probes = Probes(broken, script.clock)
    probes.start()
    try:
        group = replace(GROUP, health_check=replace(GROUP.health_check, unhealthy_threshold=1))
        probes.sync([ProbedGroup(group, "10.0.0.9")])
        wait_for(lambda: (health(probes) or BAD).reason == "Elb.InternalError")
    finally:
        probes.stop()
