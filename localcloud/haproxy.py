"""One HAProxy process per load balancer: its configuration, its life, and its runtime API.

The configuration makes HAProxy answer as an Application Load Balancer does. Sources: ELB User
Guide, "HTTP headers and Application Load Balancers", "Request tracing for your Application Load
Balancer" and "Troubleshoot your Application Load Balancers"; HAProxy Configuration Manual 2.6 and
Management Guide 2.6, "Unix Socket commands".
"""

from __future__ import annotations

import csv
import logging
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from localcloud.model import DesiredListener, DesiredLoadBalancer

logger = logging.getLogger(__name__)

CONNECT_TIMEOUT = 10
"""Seconds; "failed to establish a connection to the target before the connection timeout expired (10 seconds)"."""

_LARGEST_HEADERS = 65536
"""Bytes; "HTTP header limits" of an Application Load Balancer, all together."""
_MOST_HOPS = 30
"""Addresses in X-Forwarded-For; more are answered with ALB's own status 463."""

_START_TIMEOUT = 10.0
_SOCKET_TIMEOUT = 5.0
_NOWHERE = "127.0.0.1:9"


class HAProxyError(RuntimeError):
    """HAProxy did not start, or did not do what it was told."""


class Mode(StrEnum):
    """What a server slot may do; the words are the runtime API's."""

    READY = "ready"
    DRAIN = "drain"
    MAINT = "maint"


@dataclass(frozen=True)
class Slot:
    """One server line: where it leads (`host:port`) and whether it gets requests."""

    endpoint: str = _NOWHERE
    mode: Mode = Mode.MAINT


@dataclass(frozen=True)
class SlotStatus:
    """A slot as HAProxy reports it; `sessions` are the requests on it right now."""

    slot: Slot
    sessions: int


@dataclass(frozen=True)
class Layout:
    """What only a reload can change: listeners, timeouts, and how many slots each backend has."""

    address: str
    idle_timeout: int
    listeners: tuple[tuple[DesiredListener, str | None], ...]
    sizes: tuple[tuple[str, int], ...]

    @classmethod
    def of(cls, balancer: DesiredLoadBalancer, backends: Mapping[str, str], sizes: Mapping[str, int]) -> Layout:
        """The layout of a load balancer.

        Args:
            balancer: what the API says.
            backends: target group ARN to the name of its backend.
            sizes: name of a backend to its number of slots.
        """
        listeners = tuple((listener, backends.get(listener.target_group_arn or "")) for listener in balancer.listeners)
        return cls(balancer.address, balancer.idle_timeout, listeners, tuple(sorted(sizes.items())))


def _page(title: str) -> str:
    body = f"<html>\\r\\n<head><title>{title}</title></head>\\r\\n<body>\\r\\n<center><h1>{title}</h1></center>\\r\\n"
    return f'"{body}</body>\\r\\n</html>\\r\\n"'


_HTML = "content-type text/html"
_SERVER = "hdr Server awselb/2.0"
_GATEWAY_ERROR = (
    f"%[date(0,ms),sub(txn.started),div({CONNECT_TIMEOUT * 1000}),bool,iif(504 Gateway Time-out,502 Bad Gateway)]"
)
_NO_CONNECTION = "{ status 503 } { var(txn.forwarded) -m found } !{ var(txn.answered) -m found }"
_TOO_LATE = f"{{ date(0,ms),sub(txn.started),div({CONNECT_TIMEOUT * 1000}) gt 0 }}"


def render(layout: Layout, slots: Mapping[str, list[Slot]], directory: Path) -> str:
    """The configuration file.

    A target that refuses the connection is HAProxy's 503 and ALB's 502, one that does not accept
    it in time ALB's 504, so 503s that HAProxy itself makes after it chose a target are rewritten.
    """
    lines = [
        "global",
        "  user haproxy",
        "  group haproxy",
        f"  stats socket {directory / 'api.sock'} mode 600 level admin expose-fd listeners",
        "  hard-stop-after 300s",
        "  maxconn 2000",
        f"  tune.bufsize {_LARGEST_HEADERS}",
        "defaults",
        "  mode http",
        "  balance roundrobin",
        "  option http-keep-alive",
        "  http-reuse safe",
        "  retries 0",
        f"  timeout connect {CONNECT_TIMEOUT}s",
        f"  timeout client {layout.idle_timeout}s",
        f"  timeout server {layout.idle_timeout}s",
        f"  timeout http-request {layout.idle_timeout}s",
        f"  timeout http-keep-alive {layout.idle_timeout}s",
        f"  timeout tunnel {layout.idle_timeout}s",
        f"  http-error status 400 {_HTML} string {_page('400 Bad Request')} {_SERVER}",
        f"  http-error status 502 {_HTML} string {_page('502 Bad Gateway')} {_SERVER}",
        f"  http-error status 503 {_HTML} lf-string {_page(_GATEWAY_ERROR)} {_SERVER}",
        f"  http-error status 504 {_HTML} string {_page('504 Gateway Time-out')} {_SERVER}",
    ]
    for listener, backend in layout.listeners:
        lines += _frontend(layout, listener, backend, directory)
    for name, _ in layout.sizes:
        lines += [
            f"backend {name}",
            f"  http-request return status 503 {_HTML} string {_page('503 Service Temporarily Unavailable')} {_SERVER}"
            # A process that ends after a reload counts no servers any more, but finishes what it has accepted.
            " if { nbsrv eq 0 } !{ stopping }",
            "  http-request set-var(txn.forwarded) bool(1)",
            "  http-response set-var(txn.answered) bool(1)",
            f"  source {layout.address}",
        ]
        for number, slot in enumerate(slots[name]):
            # A draining slot has no requests in a new process, so it starts disabled; the next pass sets it.
            disabled = "" if slot.mode == Mode.READY else " disabled"
            lines.append(f"  server {slot_name(number)} {slot.endpoint}{disabled}")
    return "\n".join(lines) + "\n"


def slot_name(number: int) -> str:
    """The name of a server line."""
    return f"slot{number}"


def _frontend(layout: Layout, listener: DesiredListener, backend: str | None, directory: Path) -> list[str]:
    lines = [f"frontend port{listener.port}", f"  bind {layout.address}:{listener.port}"]
    if listener.fixed_status is not None:
        lines.append(
            f"  http-request return status {listener.fixed_status}"
            f" content-type {listener.fixed_content_type or 'text/plain'}"
            f" file {fixed_body_file(directory, listener)} {_SERVER}"
        )
        return lines
    root = 'Root=1-%[date,hex,bytes(8,8),lower]-%[uuid(),regsub(-,"",g),bytes(0,24)]'
    own = root.replace("Root=", "Self=")
    trace, forwarded = "X-Amzn-Trace-Id", "X-Forwarded-For"
    lines += [
        "  http-request set-var(txn.started) date(0,ms)",
        f"  http-request set-var-fmt(txn.root) '{root}'",
        f"  http-request set-var-fmt(txn.self) '{own}'",
        f"  http-request replace-header {trace} '(^|.*;)Self=[^;]*;?(.*)' '\\1\\2'",
        f"  http-request set-header {trace} '%[var(txn.self)];%[req.hdr({trace})]'"
        f" if {{ req.hdr({trace}) -m sub Root= }}",
        f"  http-request set-header {trace} '%[var(txn.root)];%[req.hdr({trace})]'"
        f" if {{ req.hdr({trace}) -m found }} !{{ req.hdr({trace}) -m sub Root= }}",
        f"  http-request set-header {trace} %[var(txn.root)] unless {{ req.hdr({trace}) -m found }}",
        f"  http-request return status 463 {_SERVER} if {{ req.hdr_cnt({forwarded}) gt {_MOST_HOPS} }}",
        f"  http-request set-var(txn.hops) req.fhdr_cnt({forwarded})",
        f"  http-request set-header {forwarded} '%[req.fhdr({forwarded})], %[src]' if {{ var(txn.hops) -m int eq 1 }}",
        f"  http-request add-header {forwarded} %[src] unless {{ var(txn.hops) -m int eq 1 }}",
        "  http-request set-header X-Forwarded-Proto http",
        "  http-request set-header X-Forwarded-Port %[dst_port]",
        f"  http-after-response set-status 504 reason 'Gateway Time-out' if {_NO_CONNECTION} {_TOO_LATE}",
        f"  http-after-response set-status 502 reason 'Bad Gateway' if {_NO_CONNECTION}",
    ]
    if backend is not None:
        lines.append(f"  default_backend {backend}")
    return lines


def fixed_body_file(directory: Path, listener: DesiredListener) -> Path:
    """Where a fixed response's body lies for HAProxy to read."""
    return directory / f"fixed-{listener.port}"


@dataclass
class HAProxy:
    """A load balancer's proxy.

    Args:
        directory: its own, for configuration and socket.
        layout: what it was last started with; None before the first start.
    """

    directory: Path
    layout: Layout | None = None
    _process: subprocess.Popen[bytes] | None = None
    _retired: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def retiring(self) -> bool:
        """Whether processes from before a reload still finish their requests."""
        self._retired = [process for process in self._retired if process.poll() is None]
        return bool(self._retired)

    def load(self, layout: Layout, slots: Mapping[str, list[Slot]]) -> None:
        """Start, or replace the running process without closing its listening sockets.

        Raises:
            HAProxyError: HAProxy refuses the configuration or does not come up; the old process goes on.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        for listener in (listener for listener, _ in layout.listeners if listener.fixed_status is not None):
            body = fixed_body_file(self.directory, listener)
            body.write_text(listener.fixed_body, encoding="utf-8")
        path = self.directory / "haproxy.cfg"
        path.write_text(render(layout, slots, self.directory), encoding="utf-8")
        checked = subprocess.run(["haproxy", "-c", "-q", "-f", str(path)], capture_output=True, text=True, check=False)
        if checked.returncode != 0:
            raise HAProxyError(f"HAProxy refuses {path}: {checked.stderr.strip()}")
        command = ["haproxy", "-db", "-q", "-f", str(path)]
        if self.alive and self._process is not None:
            command += ["-x", str(self.directory / "api.sock"), "-sf", str(self._process.pid)]
            self._retired.append(self._process)
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
        self._wait_until_up(self._process)
        self.layout = layout

    def status(self) -> dict[str, list[SlotStatus]]:
        """Every backend's slots, in order."""
        found: dict[str, list[SlotStatus]] = {}
        text = self.ask("show stat -1 4 -1").lstrip("# ")
        for row in csv.DictReader(text.splitlines()):
            words = row["status"]
            mode = Mode.MAINT if "MAINT" in words else Mode.DRAIN if "DRAIN" in words else Mode.READY
            found.setdefault(row["pxname"], []).append(SlotStatus(Slot(row["addr"], mode), int(row["scur"])))
        return found

    def set_slots(self, changes: Iterable[tuple[str, int, Slot]]) -> None:
        """Change slots, each given as backend, number and what it should be."""
        for backend, number, slot in changes:
            server = f"{backend}/{slot_name(number)}"
            host, _, port = slot.endpoint.rpartition(":")
            moved = self.ask(f"set server {server} addr {host} port {port}").strip()
            refused = self.ask(f"set server {server} state {slot.mode}").strip()
            if refused or not ("changed" in moved or "no need to change" in moved):
                raise HAProxyError(f"HAProxy did not set {server} to {slot}: {moved} {refused}")

    def disable(self, slots: Iterable[tuple[str, int]]) -> None:
        """Send nothing more to slots, each given as backend and number, and say no more about it than that."""
        for backend, number in slots:
            self.ask(f"set server {backend}/{slot_name(number)} state {Mode.MAINT}")

    def cut(self, backend: str, number: int) -> None:
        """End the requests that are still on a slot."""
        self.ask(f"shutdown sessions server {backend}/{slot_name(number)}")

    def ask(self, command: str) -> str:
        """Send one command to the runtime API.

        Raises:
            OSError: HAProxy does not answer.
        """
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_SOCKET_TIMEOUT)
            connection.connect(str(self.directory / "api.sock"))
            connection.sendall(command.encode() + b"\n")
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
        return answer.decode("utf-8", "replace")

    def stop(self) -> None:
        """End every process of this load balancer."""
        processes = [*self._retired, *([self._process] if self._process else [])]
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(_SOCKET_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._process, self._retired = None, []

    def _wait_until_up(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _START_TIMEOUT
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise HAProxyError(f"HAProxy ended at once with status {process.returncode}; see the log above")
            try:
                if f"Pid: {process.pid}\n" in self.ask("show info"):
                    return
            except OSError:
                logger.debug("HAProxy %d does not answer yet", process.pid)
            time.sleep(0.05)
        process.kill()
        process.wait()
        raise HAProxyError(f"HAProxy did not answer within {_START_TIMEOUT:.0f} s")


def kill_leftovers(directory: Path) -> list[int]:
    """End HAProxy processes whose configuration lies under a directory, whoever started them.

    Returns:
        The process ids that were ended.
    """
    prefix = f"{directory}/"
    killed = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            arguments = (entry / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
        except OSError:
            continue
        if Path(arguments[0]).name == "haproxy" and any(argument.startswith(prefix) for argument in arguments):
            os.kill(int(entry.name), signal.SIGKILL)
            killed.append(int(entry.name))
    return killed
