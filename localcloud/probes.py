"""Health of the load balancers' targets: real HTTP requests, judged as AWS judges them.

Sources: ELB User Guide, "Health checks for Application Load Balancer target groups" (a newly
registered target is healthy after one check that passes; the checks' connections are closed
afterwards), and ELB API Reference, "TargetHealth" (reason codes).
"""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace

from localcloud.model import DesiredTarget, DesiredTargetGroup, HealthCheck, HealthState, TargetHealth

logger = logging.getLogger(__name__)

Probe = Callable[[str, int, HealthCheck, str], "ProbeResult"]
"""`(address, port, health check, source address)` to what came of it."""

REGISTERING = TargetHealth(HealthState.INITIAL, "Elb.RegistrationInProgress", "Target registration is in progress")
INITIAL = TargetHealth(HealthState.INITIAL, "Elb.InitialHealthChecking", "Initial health checks in progress")
HEALTHY = TargetHealth(HealthState.HEALTHY)
NOT_IN_USE = TargetHealth(
    HealthState.UNUSED,
    "Target.NotInUse",
    "Target group is not configured to receive traffic from the load balancer",
)
INVALID_STATE = TargetHealth(HealthState.UNUSED, "Target.InvalidState", "Target is in the stopped state")
DRAINING = TargetHealth(HealthState.DRAINING, "Target.DeregistrationInProgress", "Target deregistration is in progress")

_MAX_HEAD = 65536
_IDLE_WAIT = 3600.0
_WORKERS = 8


@dataclass(frozen=True)
class ProbeResult:
    """One health check's outcome; `failure` is None when it passed, else what AWS would say."""

    failure: TargetHealth | None = None

    @property
    def passed(self) -> bool:
        """Whether the target answered as the matcher wants."""
        return self.failure is None


@dataclass(frozen=True)
class ProbedGroup:
    """A target group and the address of the load balancer that uses it (None: no one does)."""

    group: DesiredTargetGroup
    source: str | None


@dataclass(frozen=True)
class TargetView:
    """One target as the balancer needs it. `drain_until` is on the monotonic clock."""

    key: str
    address: str
    port: int
    health: TargetHealth
    drain_until: float | None


@dataclass
class _Record:
    address: str
    port: int
    health: TargetHealth
    due: float
    successes: int = 0
    failures: int = 0
    drain_until: float | None = None
    running: bool = False


def target_key(target: DesiredTarget) -> str:
    """The name of a target in the health tables, e.g. `i-0123:80`."""
    return f"{target.target_id}:{target.port}"


def matches(matcher: str, status: int) -> bool:
    """Whether a status satisfies an HttpCode matcher such as `200`, `200,302` or `200-299`."""
    for part in matcher.split(","):
        first, _, last = part.strip().partition("-")
        if int(first) <= status <= int(last or first):
            return True
    return False


def http_probe(address: str, port: int, check: HealthCheck, source: str) -> ProbeResult:
    """Ask a target once, from the load balancer's own address, within the check's time-out.

    Redirects are not followed and certificates are not verified, as with AWS.
    """
    deadline = time.monotonic() + check.timeout
    request = (
        f"GET {check.path} HTTP/1.1\r\nHost: {address}:{port}\r\nConnection: close\r\n"
        "User-Agent: ELB-HealthChecker/2.0\r\nAccept-Encoding: gzip, compressed\r\n\r\n"
    )
    try:
        with (
            socket.create_connection((address, port), check.timeout, (source, 0)) as plain,
            _encrypted(plain, deadline) if check.protocol == "HTTPS" else nullcontext(plain) as connection,
        ):
            connection.settimeout(_left(deadline))
            connection.sendall(request.encode("ascii", "replace"))
            head = _read_head(connection, deadline)
    except TimeoutError:
        return ProbeResult(TargetHealth(HealthState.UNHEALTHY, "Target.Timeout", "Request timed out"))
    except OSError:
        return _failed()
    words = head.split(b"\r\n", 1)[0].split(b" ")
    if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
        return _failed()
    status = int(words[1])
    if matches(check.matcher, status):
        return ProbeResult()
    return ProbeResult(
        TargetHealth(
            HealthState.UNHEALTHY,
            "Target.ResponseCodeMismatch",
            f"Health checks failed with these codes: [{status}]",
        )
    )


class Probes:
    """The health of every target of every group, kept up to date by a few threads.

    Args:
        probe: makes one check; replaced in tests.
        clock: seconds, monotonic.
        changed: called when a target's health has changed.
    """

    def __init__(
        self,
        probe: Probe = http_probe,
        clock: Callable[[], float] = time.monotonic,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._changed = changed
        self._probe = probe
        self._clock = clock
        self._groups: dict[str, ProbedGroup] = {}
        self._records: dict[str, dict[str, _Record]] = {}
        self._stopped: set[str] = set()
        self._wake = threading.Condition()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="probe")

    def start(self) -> None:
        """Begin to check."""
        self._thread = threading.Thread(target=self._run, name="probes", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End, without waiting for checks that are under way."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        if self._thread is not None:
            self._thread.join()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def sync(self, groups: Iterable[ProbedGroup]) -> None:
        """Take over what is registered now; targets that are gone start to drain."""
        now = self._clock()
        with self._wake:
            self._groups = {probed.group.arn: probed for probed in groups}
            self._stopped &= {target.target_id for probed in self._groups.values() for target in probed.group.targets}
            for arn in [arn for arn in self._records if arn not in self._groups]:
                del self._records[arn]
            for arn, probed in self._groups.items():
                self._sync_group(self._records.setdefault(arn, {}), probed, now)
            self._wake.notify_all()

    def health(self, target_group_arn: str) -> dict[str, TargetHealth]:
        """Every known target of a group, draining ones included, as `{"i-…:80": TargetHealth}`."""
        with self._wake:
            return {key: record.health for key, record in self._records.get(target_group_arn, {}).items()}

    def targets(self, target_group_arn: str) -> list[TargetView]:
        """What the balancer may have to send requests to, or to drain."""
        with self._wake:
            return [
                TargetView(key, record.address, record.port, record.health, record.drain_until)
                for key, record in self._records.get(target_group_arn, {}).items()
                if record.address
            ]

    def drained(self, target_group_arn: str, key: str) -> None:
        """Forget a draining target: nothing goes through it any more."""
        with self._wake:
            records = self._records.get(target_group_arn, {})
            if key in records and records[key].drain_until is not None:
                del records[key]

    def stopped(self, target_id: str) -> list[tuple[str, str]]:
        """Take note that a target has stopped, whatever the next `sync` still believes; until `runs` says otherwise.

        Returns:
            Where it was registered, as ARN of the target group and name in the health tables.
        """
        found = []
        with self._wake:
            self._stopped.add(target_id)
            for arn, records in self._records.items():
                for key, record in records.items():
                    if key.rpartition(":")[0] != target_id or record.drain_until is not None:
                        continue
                    found.append((arn, key))
                    records[key] = _Record("", record.port, INVALID_STATE, record.due)
                    _log_change(self._groups[arn].group.name, key, INVALID_STATE)
        if found:
            self._changed()
        return found

    def runs(self, target_id: str) -> None:
        """Take note that a target runs, again or for the first time."""
        with self._wake:
            self._stopped.discard(target_id)

    def _sync_group(self, records: dict[str, _Record], probed: ProbedGroup, now: float) -> None:
        wanted = {
            target_key(target): replace(target, address=None) if target.target_id in self._stopped else target
            for target in probed.group.targets
        }
        for key in [key for key in records if key not in wanted]:
            record = records[key]
            if record.drain_until is not None:
                continue
            if record.health.state == HealthState.UNUSED or probed.source is None:
                del records[key]
                continue
            record.drain_until = now + probed.group.deregistration_delay
            record.health = DRAINING
        for key, target in wanted.items():
            known = records.get(key)
            if target.address is None or probed.source is None:
                health = INVALID_STATE if target.address is None else NOT_IN_USE
                records[key] = _Record(target.address or "", target.port, health, now)
            elif (
                known is None
                or known.drain_until is not None
                or known.address != target.address
                or known.health.state == HealthState.UNUSED
            ):
                records[key] = _Record(target.address, target.port, REGISTERING, now)
            else:
                known.due = min(known.due, now + probed.group.health_check.interval)

    def _run(self) -> None:
        while True:
            with self._wake:
                if self._stopping:
                    return
                wait = self._dispatch(self._clock())
                self._wake.wait(wait)

    def _dispatch(self, now: float) -> float:
        """Hand out what is due; the seconds until something else will be. Called with the lock."""
        wait = _IDLE_WAIT
        for arn, records in self._records.items():
            probed = self._groups[arn]
            check = probed.group.health_check
            for key, record in records.items():
                if record.running or record.health.state in (HealthState.UNUSED, HealthState.DRAINING):
                    continue
                if record.due > now:
                    wait = min(wait, record.due - now)
                    continue
                if record.health is REGISTERING:
                    record.health = INITIAL
                record.running = True
                record.due = now + check.interval
                port = record.port if check.port == "traffic-port" else int(check.port)
                future = self._pool.submit(self._probe, record.address, port, check, probed.source or "")
                future.add_done_callback(
                    lambda done, arn=arn, key=key, record=record: self._done(arn, key, record, done)  # type: ignore[misc]
                )
        return wait

    def _done(self, arn: str, key: str, record: _Record, future: Future[ProbeResult]) -> None:
        if future.cancelled():
            return
        error = future.exception()
        if error is not None:
            logger.error("the health check of %s broke", key, exc_info=error)
            result = ProbeResult(
                TargetHealth(
                    HealthState.UNHEALTHY, "Elb.InternalError", "Health checks failed due to an internal error"
                )
            )
        else:
            result = future.result()
        with self._wake:
            record.running = False
            probed = self._groups.get(arn)
            if probed is not None and self._records.get(arn, {}).get(key) is record and record.drain_until is None:
                before = record.health
                _judge(record, result, probed.group.health_check)
                if record.health != before:
                    _log_change(probed.group.name, key, record.health)
                    self._changed()
            self._wake.notify_all()


def _judge(record: _Record, result: ProbeResult, check: HealthCheck) -> None:
    """One step of a target's state: AWS counts consecutive outcomes only."""
    if result.failure is None:
        record.successes += 1
        record.failures = 0
        needed = 1 if record.health.state == HealthState.INITIAL else check.healthy_threshold
        if record.successes >= needed:
            record.health = HEALTHY
        return
    record.failures += 1
    record.successes = 0
    if record.health.state == HealthState.UNHEALTHY or record.failures >= check.unhealthy_threshold:
        record.health = result.failure


def _log_change(group: str, key: str, health: TargetHealth) -> None:
    why = f": {health.description}" if health.description else ""
    logger.info("target %s of %s is %s%s", key, group, health.state, why)


def summary(health: Mapping[str, TargetHealth]) -> str:
    """One phrase for people, e.g. `1 healthy, 1 draining`."""
    counts: dict[str, int] = {}
    for one in health.values():
        counts[one.state] = counts.get(one.state, 0) + 1
    return ", ".join(f"{count} {state}" for state, count in sorted(counts.items())) or "no targets"


def _failed() -> ProbeResult:
    return ProbeResult(TargetHealth(HealthState.UNHEALTHY, "Target.FailedHealthChecks", "Health checks failed"))


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _encrypted(plain: socket.socket, deadline: float) -> socket.socket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    plain.settimeout(_left(deadline))
    return context.wrap_socket(plain)


def _read_head(connection: socket.socket, deadline: float) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head and len(head) < _MAX_HEAD:
        connection.settimeout(_left(deadline))
        chunk = connection.recv(4096)
        if not chunk:
            break
        head += chunk
    return head
