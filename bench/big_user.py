"""What a user of a million memos waits for, beside one of a thousand, in one run.

    .venv/bin/python bench/big_user.py [--memos N] [--rounds N]

Starts a MySQL and a Redis of its own (or uses those named by MEMO_TEST_…, as the service's tests do), fills them,
asks the whole application in turn for both users, and prints medians in milliseconds and their ratio. No answer is a
kept one: before each, the service is told to use none of those. Where both get as much, the ratio is to stay below two;
a search for what is everywhere gives the big user more, and is to stay below a time.
"""

from __future__ import annotations

import argparse
import random
import secrets
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from urllib.parse import quote

PROJECT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(PROJECT), str(PROJECT / "app"), str(PROJECT / "app" / "tests")]

import pymysql  # noqa: E402 - found by the line above, as those below
from flask.testing import FlaskClient  # noqa: E402
from memo import create_app, grams  # noqa: E402
from memo_testing.servers import Servers, given_servers, started_servers  # noqa: E402

SMALL, AIM, BOUND = 1000, 2.0, 250.0
WORDS = [
    "회의",
    "예산",
    "여행",
    "영수증",
    "책",
    "산책",
    "요리",
    "선물",
    "병원",
    "약속",
    "코드",
    "배포",
    "일정",
    "사진",
    "운동",
    "은행",
    "우유",
    "커피",
    "생일",
    "이사",
]
ROWS_AT_ONCE = 10_000


@dataclass(frozen=True)
class Writer:
    """A user with memos that are alike but for their number.

    Args:
        user_id: who.
        count: of memos.
        first: the id of the first one.
    """

    user_id: str
    count: int
    first: int

    def text(self, number: int) -> str:
        """The text of a memo, counted from 0."""
        chance = random.Random(number)  # noqa: S311 - the same texts in every run
        return f"{chance.choice(WORDS)} {number:07} {chance.choice(WORDS)}"


def main() -> int:
    """Measure; the exit status tells whether every aim was met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memos", type=int, default=1_000_000, help="of the big user")
    parser.add_argument("--rounds", type=int, default=60)
    arguments = parser.parse_args()
    given = given_servers()
    if given is not None:
        return measure(given, arguments.memos, arguments.rounds)
    with started_servers() as servers:
        return measure(servers, arguments.memos, arguments.rounds)


def measure(servers: Servers, memos: int, rounds: int) -> int:
    """Fill a new database, ask, and remove it."""
    name = f"memo_bench_{secrets.token_hex(4)}"
    servers.execute(f"CREATE DATABASE {name}")
    try:
        settings = servers.settings(name, log_level="ERROR")
        app = create_app(settings)
        result = app.test_cli_runner().invoke(args=["migrate"])
        if result.exit_code != 0:
            raise RuntimeError(result.output)
        writers = (Writer("small", SMALL, 1), Writer("big", memos, SMALL + 1))
        for writer in writers:
            started = time.monotonic()
            fill(servers, name, writer)
            print(f"{writer.user_id}: {writer.count} memos stored in {time.monotonic() - started:.0f} s", flush=True)
        servers.execute("ANALYZE TABLE memos, memo_grams", database=name)
        clients = [app.test_client() for _ in writers]
        for writer, client in zip(writers, clients, strict=True):
            key = app.extensions["memo"].sessions.create(writer.user_id)
            client.set_cookie(settings.cookie_name, key, path=settings.url_prefix)
        return report(writers, clients, rounds, app.extensions["memo"].cache.forget_all)
    finally:
        servers.execute(f"DROP DATABASE {name}")


def fill(servers: Servers, database: str, writer: Writer) -> None:
    """Store a user, the memos and their index; in bulk, and the index in its own order."""
    connection = servers.connect(database)
    postings: dict[str, list[int]] = {}
    memos = []
    for number in range(writer.count):
        text, memo_id = writer.text(number), writer.first + number
        memos.append(f"({memo_id},'{writer.user_id}','{text}',{int(number % 5000 == 0)},NOW(6),NOW(6),updated_at)")
        for piece in grams.pieces(text):
            postings.setdefault(piece, []).append(memo_id)
    keys = sorted((grams.number(writer.user_id, piece), ids) for piece, ids in postings.items())
    rows = (f"({key},{memo_id})" for key, ids in keys for memo_id in ids)
    with connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO users VALUES (%s, NULL, NOW(6), NOW(6))", [writer.user_id])
        insert(cursor, "memos (id, user_id, text, pinned, created_at, updated_at, indexed_at)", iter(memos))
        insert(cursor, "memo_grams (gram, memo_id)", rows)


def insert(cursor: pymysql.cursors.Cursor, into: str, rows: Iterator[str]) -> None:
    """Insert rows, written as SQL of ours, many in a statement."""
    while part := list(islice(rows, ROWS_AT_ONCE)):
        cursor.execute(f"INSERT INTO {into} VALUES {','.join(part)}")  # noqa: S608 - all of it is made above


def requests_for(writer: Writer) -> dict[str, str]:
    """What is asked: a name, and the path."""
    middle = writer.first + writer.count // 2
    return {
        "API, first page": "/memo/memo",
        "API, page in the middle": f"/memo/memo?cursor={middle}",
        "page, first": "/memo/",
        "page, in the middle": f"/memo/?cursor={middle}",
        "search, one match (newest)": f"/memo/memo?q={writer.count - 1:07}",
        "search, one match (oldest)": "/memo/memo?q=0000000",
        "search, part of a number": f"/memo/memo?q={writer.count // 2:07}"[:-1],
        "search, a word and a number": f"/memo/memo?q={quote(writer.text(7))}",
        "search, no match": f"/memo/memo?q={quote('없는말')}",
        "search, a common word": f"/memo/memo?q={quote('회의')}",
        "search, one common syllable": f"/memo/memo?q={quote('회')}",
        "search, two common digits": "/memo/memo?q=00",
        "search, two common words": f"/memo/memo?q={quote('회의 예산')}",
    }


def report(
    writers: Sequence[Writer], clients: Sequence[FlaskClient], rounds: int, forget_all: Callable[[], None]
) -> int:
    """Ask in turn, print, and tell whether every ratio is as it should be."""
    asked = [requests_for(writer) for writer in writers]
    missed = 0
    print(f"{'milliseconds, median (95 %)':32} {writers[0].count:>16,} {writers[1].count:>16,} {'ratio':>7} {'aim':>7}")
    for name in asked[0]:
        taken: tuple[list[float], list[float]] = ([], [])
        for number in range(rounds + 3):
            # Who is first changes, so that neither always finds the caches warm.
            for which in (0, 1) if number % 2 else (1, 0):
                forget_all()
                started = time.perf_counter()
                response = clients[which].get(asked[which][name])
                seconds = time.perf_counter() - started
                if response.status_code != 200:
                    raise RuntimeError(f"{name}: {response.status}")
                if number >= 3:  # the first ones connect, compile and warm up
                    taken[which].append(seconds * 1000)
        small, big = (statistics.median(times) for times in taken)
        common = "common" in name
        missed += big > BOUND if common else big > AIM * small
        cells = [f"{statistics.median(times):7.1f} ({statistics.quantiles(times, n=20)[-1]:6.1f})" for times in taken]
        print(f"{name:32} {cells[0]:>16} {cells[1]:>16} {big / small:>7.2f} {f'{BOUND:.0f} ms' if common else AIM:>7}")
    print(f"{missed} above what is aimed at")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
