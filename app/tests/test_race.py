"""Readers and writers race on two servers, each a process with its own connections; what was acknowledged is seen."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field

import pymysql
import pytest
import requests
from memo import scripts
from memo.config import Settings
from memo.sessions import SessionStore, connect
from memo_testing.browser import JSON
from memo_testing.serving import served

USERS = 2
WRITES = 25
"""Of each writer; two of them for each user keep the list below the hundred that one answer has."""


@dataclass
class Ledger:
    """What is known of one user's memos: by id the version that was acknowledged; those that may be gone, and are."""

    session: str
    lock: threading.Lock = field(default_factory=threading.Lock)
    versions: dict[int, int] = field(default_factory=dict)
    going: set[int] = field(default_factory=set)
    gone: set[int] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)

    def read(self, server: str) -> None:
        """Ask for the list, and compare it with what was acknowledged before the question was sent."""
        with self.lock:
            versions, gone = dict(self.versions), set(self.gone)
        answer = self.ask("GET", server, "")
        found = {memo["id"]: int(memo["text"].split()[-1]) for memo in answer.json()["memos"]}
        with self.lock:
            lost = [number for number in versions if number not in found and number not in self.going]
            old = [number for number, version in versions.items() if found.get(number, version) < version]
            back = sorted(gone & found.keys())
            if lost or old or back:
                self.problems.append(f"{server}: lost {lost}, old {old}, back {back}")

    def write(self, servers: list[str], chance: random.Random) -> None:
        """Make memos, change some, delete some, and read at the other server after each of it."""
        for _ in range(WRITES):
            chance.shuffle(servers)
            number = self.ask("POST", servers[0], "", {"text": "version 1"}).json()["id"]
            with self.lock:
                self.versions[number] = 1
            self.read(servers[1])
            if chance.random() < 0.5:
                self.ask("PATCH", servers[1], f"/{number}", {"text": "version 2"})
                with self.lock:
                    self.versions[number] = 2
                self.read(servers[0])
            if chance.random() < 0.3:
                with self.lock:
                    self.going.add(number)
                self.ask("DELETE", servers[0], f"/{number}")
                with self.lock:
                    self.gone.add(number)
                self.read(servers[1])

    def ask(self, method: str, server: str, path: str, json: object = None) -> requests.Response:
        cookies = {"userId": self.session}
        answer = requests.request(method, f"{server}memo{path}", json=json, cookies=cookies, headers=JSON, timeout=120)
        assert answer.status_code in (200, 204), answer.text
        return answer


@pytest.mark.slow
def test_what_was_acknowledged_is_in_every_later_answer(settings: Settings, sql: pymysql.cursors.Cursor) -> None:
    redis = connect(settings)
    sessions = SessionStore(
        redis, settings.secret_key, settings.session_idle_seconds, settings.session_absolute_seconds
    )
    users = [f"racer-{number}" for number in range(USERS)]
    sql.executemany("INSERT INTO users VALUES (%s, NULL, NOW(6), NOW(6))", [(user,) for user in users])
    ledgers = [Ledger(sessions.create(user)) for user in users]
    with ExitStack() as stack:
        servers = [stack.enter_context(served(settings)) for _ in range(2)]
        for one in servers:  # one after the other: the first one brings the scripts
            ledgers[0].read(one)
        over = threading.Event()
        began = [threading.Event() for _ in range(USERS * len(servers))]
        with ThreadPoolExecutor(2 * USERS + len(began)) as threads:
            each = [(ledger, one) for ledger in ledgers for one in servers]
            readers = [
                threads.submit(keep_reading, *where, begin, over) for where, begin in zip(each, began, strict=True)
            ]
            try:
                for begin in began:
                    assert begin.wait(120)
                writers = [
                    threads.submit(ledger.write, list(servers), random.Random(number))  # noqa: S311 - no secret
                    for ledger in ledgers
                    for number in range(2)
                ]
                for writer in writers:
                    writer.result()
            finally:
                over.set()
            for reader in readers:
                reader.result()
        for ledger in ledgers:
            assert ledger.problems == []
            assert len(ledger.versions) == 2 * WRITES
            assert ledger.gone
            # The race was one with the cache: it is in use.
            for one in servers:
                ledger.read(one)
        for user in users:
            assert any(str(name).endswith(":list") for name in redis.hkeys(scripts.CACHES + user))
            assert not redis.exists(scripts.WRITING + user)


def keep_reading(ledger: Ledger, server: str, began: threading.Event, over: threading.Event) -> None:
    while not over.is_set():
        ledger.read(server)
        began.set()
