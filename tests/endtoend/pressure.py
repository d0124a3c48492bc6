"""More than a web host can do: requests offered at a fixed rate, and clients that are slow on purpose."""

from __future__ import annotations

import io
import json
import math
import selectors
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from urllib.parse import urlsplit

from endtoend.people import TIMEOUT, Person

_TRICKLE_SECONDS = 0.5
_CLIENTS = 600
_CLOSED_LOOP = 16


@dataclass
class Offered:
    """What came of requests that were offered.

    Args:
        seconds: for how long.
        spent: the seconds of each answer, by its status.
    """

    seconds: float
    spent: dict[int, list[float]] = field(default_factory=dict)

    def rate(self, status: int) -> float:
        """Answers of this status in a second."""
        return len(self.spent.get(status, ())) / self.seconds

    def percentile(self, status: int, percent: int) -> float:
        """Seconds within which so many percent of the answers of this status came."""
        found = self.spent.get(status, [])
        return quantiles(found, n=100, method="inclusive")[percent - 1] if len(found) > 1 else sum(found)

    def __str__(self) -> str:
        return "; ".join(
            f"{status}: {self.rate(status):.0f}/s, p50 {self.percentile(status, 50) * 1000:.0f} ms,"
            f" p99 {self.percentile(status, 99) * 1000:.0f} ms, slowest {max(spent) * 1000:.0f} ms"
            for status, spent in sorted(self.spent.items())
        )


def offer(person: Person, path: str, seconds: float, folder: Path, rate: float = math.inf) -> Offered:
    """Ask for a path again and again.

    Args:
        person: as whom.
        path: relative to the page.
        seconds: for how long.
        folder: for h2load's log.
        rate: requests a second, whether they are answered or not; without it as many as 16 clients get answered.
    """
    log = folder / "h2load.log"
    log.unlink(missing_ok=True)
    cookies = "; ".join(f"{one.name}={one.value}" for one in person.session.cookies)
    load = (
        ["--clients", str(_CLOSED_LOOP)]
        if math.isinf(rate)
        else ["--clients", str(_CLIENTS), "--rps", f"{rate / _CLIENTS:.3f}"]
    )
    subprocess.run(
        [
            *("h2load", "--h1", "--threads", "1", "--duration", f"{seconds:g}", *load, "--log-file", str(log)),
            *("--header", f"Cookie: {cookies}", "--header", "Accept: application/json", person.url + path),
        ],
        check=True,
        capture_output=True,
        timeout=seconds + 30,
    )
    spent: dict[int, list[float]] = {}
    for line in log.read_text(encoding="utf-8").splitlines():
        _, status, microseconds = line.split("\t")[:3]
        spent.setdefault(int(status), []).append(int(microseconds) / 1e6)
    return Offered(seconds, spent)


def fill(person: Person, megabytes: float) -> None:
    """Give somebody so many memos that their export has this size."""
    text = "가" * 300  # 900 bytes
    memo = {"pinned": False, "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z"}
    memos = [memo | {"text": f"{number} {text}"} for number in range(int(megabytes * 1_000_000 / 1050))]
    exported = json.dumps({"format": "memo-export", "version": 1, "memos": memos}, ensure_ascii=False)
    answer = person.session.post(
        person.url + "import", files={"file": ("memos.json", io.BytesIO(exported.encode()))}, timeout=TIMEOUT
    )
    assert answer.status_code == 200, answer.text


class SlowClients:
    """Connections that send, or read, a byte now and then.

    Args:
        person: whose cookies they send.
    """

    def __init__(self, person: Person) -> None:
        parts = urlsplit(person.url)
        self._target = (str(parts.hostname), parts.port or 80)
        self._path = parts.path
        cookies = "; ".join(f"{one.name}={one.value}" for one in person.session.cookies)
        self._head = f"Host: {parts.netloc}\r\nCookie: {cookies}\r\n"
        self._senders: list[socket.socket] = []
        self._readers: list[socket.socket] = []
        self._stop = threading.Event()
        self.closed = 0

    @property
    def held(self) -> int:
        """How many connections the server still holds."""
        return len(self._senders) + len(self._readers)

    @contextmanager
    def holding(self, *, headers: int, bodies: int, readers: int) -> Iterator[None]:
        """Hold so many connections of each kind, all the while.

        Args:
            headers: those that never end their headers.
            bodies: those that never end a body.
            readers: those that ask for an export and hardly read it.
        """
        never = "X-Slow: "
        post = f"POST {self._path}memo HTTP/1.1\r\n{self._head}Content-Type: application/json\r\n"
        self._senders = [self._connect(f"GET {self._path}memo HTTP/1.1\r\n{self._head}{never}") for _ in range(headers)]
        self._senders += [self._connect(f"{post}Content-Length: 100000\r\n\r\n") for _ in range(bodies)]
        export = f"GET {self._path}export?format=json HTTP/1.1\r\n{self._head}\r\n"
        self._readers = [self._connect(export, buffer=4096) for _ in range(readers)]
        thread = threading.Thread(target=self._trickle, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join(10)
            for connection in (*self._senders, *self._readers):
                connection.close()

    def _connect(self, text: str, buffer: int = 0) -> socket.socket:
        connection = socket.socket()
        if buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        connection.settimeout(TIMEOUT)
        connection.connect(self._target)
        connection.sendall(text.encode())
        connection.setblocking(False)
        return connection

    def _trickle(self) -> None:
        while not self._stop.wait(_TRICKLE_SECONDS):
            self._senders = [one for one in self._senders if self._sent(one)]
            self._readers = [one for one in self._readers if self._read(one)]

    def _sent(self, connection: socket.socket) -> bool:
        with selectors.DefaultSelector() as selector:
            selector.register(connection, selectors.EVENT_READ)
            if selector.select(0):  # an answer, or the end: the server had enough
                return self._gone(connection)
        with suppress(BlockingIOError):
            try:
                connection.send(b"x")
            except OSError:
                return self._gone(connection)
        return True

    def _read(self, connection: socket.socket) -> bool:
        with suppress(BlockingIOError):
            try:
                if not connection.recv(16):
                    return self._gone(connection)
            except ConnectionError:
                return self._gone(connection)
        return True

    def _gone(self, connection: socket.socket) -> bool:
        connection.close()
        self.closed += 1
        return False
