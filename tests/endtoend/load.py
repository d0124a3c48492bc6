"""People at work while the fleet is changed: steady requests through the load balancer, each accounted for."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import quantiles

import requests

from endtoend.people import Person

_WRITES = 0.25
_FRESH_CONNECTION = 0.05
_PAGE = "memo?limit=20"
_JSON = {"Accept": "application/json"}
_SEED = 20261123


@dataclass(frozen=True)
class Answer:
    """One request: when it was sent (monotonic), for how long, in which phase, and what came of it."""

    at: float
    seconds: float
    phase: str
    method: str
    problem: str = ""


@dataclass
class Worker:
    """One person who reads and writes memos, over a connection that is kept and now and then a fresh one.

    A write is never repeated: whether a failed one was stored nobody knows, and the ledger must.
    """

    person: Person
    name: str
    random: random.Random
    written: set[str] = field(default_factory=set)
    doubtful: set[str] = field(default_factory=set)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def ask(self, phase: str) -> Answer:
        """Send one request."""
        if self.random.random() < _FRESH_CONNECTION:
            self.person.session.close()
        writes = self.random.random() < _WRITES
        text = f"{self.name} {next(self.numbers)}" if writes else ""
        started = time.monotonic()
        problem = ""
        try:
            answer = self.person.write(text) if writes else self.person.get(_PAGE, **_JSON)
            if answer.status_code != 200:
                problem = f"status {answer.status_code}"
            if answer.status_code == 503 and "Retry-After" not in answer.headers:
                problem += " without Retry-After"
        except requests.RequestException as error:
            problem = type(error).__name__
        if writes:
            (self.doubtful if problem else self.written).add(text)
        return Answer(started, time.monotonic() - started, phase, "POST" if writes else "GET", problem)


class Load:
    """Steady load, in the background, until it is stopped.

    Args:
        people: those who are logged in.
        rate: requests a second, of all together.
    """

    def __init__(self, people: list[Person], rate: float) -> None:
        self._workers = [
            # The same people may have been under load before: this load's texts are its own.
            Worker(person, f"load-{time.time_ns()}-{number}", random.Random(_SEED + number))  # noqa: S311 - no secret, and the same each time
            for number, person in enumerate(people)
        ]
        self._pause = len(people) / rate
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._phase = "before"
        self._threads: list[threading.Thread] = []
        self.answers: list[Answer] = []

    def start(self) -> None:
        """Begin."""
        for number, worker in enumerate(self._workers):
            thread = threading.Thread(target=self._work, args=(worker, number), daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """End, after the requests that are under way."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=60)
        assert not any(thread.is_alive() for thread in self._threads), "a request that never ended"

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Around what is done to the fleet: requests sent meanwhile are counted under this name."""
        before, self._phase = self._phase, name
        yield
        self._phase = before

    def of(self, *phases: str) -> list[Answer]:
        """The requests of these phases; of all when none is named."""
        with self._lock:
            return [answer for answer in self.answers if not phases or answer.phase in phases]

    def failed(self, *phases: str) -> list[Answer]:
        """Those that did not get a 200."""
        return [answer for answer in self.of(*phases) if answer.problem]

    def report(self) -> str:
        """A line for each phase."""
        lines = []
        for phase in dict.fromkeys(answer.phase for answer in self.of()):
            answers = self.of(phase)
            spent = sorted(answer.seconds * 1000 for answer in answers)
            cuts = quantiles(spent, n=100) if len(spent) > 1 else spent * 99
            problems = Counter(answer.problem for answer in answers if answer.problem)
            told = ", ".join(f"{count} × {problem}" for problem, count in problems.items()) or "none"
            lines.append(
                f"{phase}: {len(answers)} requests, failed: {told}; "
                f"p50 {cuts[49]:.0f} ms, p95 {cuts[94]:.0f} ms, p99 {cuts[98]:.0f} ms"
            )
        return "\n".join(lines)

    def check_ledger(self) -> int:
        """Check that every acknowledged memo is there exactly once, and what was not acknowledged at most once.

        Returns:
            How many were acknowledged.
        """
        acknowledged = 0
        for worker in self._workers:
            found = Counter(text for text in worker.person.memos() if text.startswith(f"{worker.name} "))
            missing = [text for text in worker.written if found[text] != 1]
            assert not missing, f"acknowledged, but not there exactly once: {missing[:5]} of {len(missing)}"
            doubled = [text for text in worker.doubtful if found[text] > 1]
            assert not doubled, f"stored more than once: {doubled[:5]}"
            acknowledged += len(worker.written)
        return acknowledged

    def _work(self, worker: Worker, number: int) -> None:
        # Spread over the pause, and kept to a schedule: a slow answer does not lower the rate.
        due = time.monotonic() + self._pause * number / len(self._workers)
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            answer = worker.ask(self._phase)
            with self._lock:
                self.answers.append(answer)
            due = max(due + self._pause, time.monotonic() - 1)
