"""The service beside others under the same nginx and uWSGI, in one run: requests, what each costs, and memory.

    .venv/bin/python bench/service.py [--rounds N] [--seconds N]

Four contestants (`bench/contestants/`): a hello-world Flask, which is the ceiling; a straightforward implementation of
the contract; a bare WSGI one; and the service. They take turns, so that a slow moment of the machine meets all of them;
medians of the rounds are compared. Every answer's status is checked in nginx's log.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(PROJECT), str(PROJECT / "bench")]

from instance import Instance, instance  # noqa: E402 - found by the line above

CONTESTANTS = {
    "hello": "contestant_hello:app",
    "straightforward": "contestant_straightforward:app",
    "bare": "contestant_bare:app",
    "memo": "memo.wsgi:app",
}
USERS = 200
INSTANCE_MIB = 1024
KERNEL_MIB = 160
"""What Linux keeps of a t2.micro's memory for itself and its caches of metadata; an allowance, not measured."""


@dataclass(frozen=True)
class Turn:
    """One contestant asked for one thing.

    Args:
        task: `list`, `unchanged`, `page` or `new`.
        contestant: who.
        status: what every answer must have.
    """

    task: str
    contestant: str
    status: int = 200


TURNS = (
    Turn("list", "hello"),
    Turn("list", "straightforward"),
    Turn("list", "bare"),
    Turn("list", "memo"),
    Turn("unchanged", "straightforward", 304),
    Turn("unchanged", "memo", 304),
    Turn("page", "straightforward"),
    Turn("page", "memo"),
    Turn("new", "straightforward"),
    Turn("new", "bare"),
    Turn("new", "memo"),
)
HELLO = TURNS[0]
AIMS = (
    ("list", "straightforward", 5.0),
    ("list", "hello", 0.6),
    ("new", "straightforward", 2.0),
    ("unchanged", "hello", 0.7),
    ("page", "hello", 0.4),
)
# Like the load balancer's requests. Made once, so that the load generator costs the same for everybody.
WRK = """
local sessions, tags = {%(sessions)s}, {%(tags)s}
local requests = {}
function init()
  for number, session in ipairs(sessions) do
    local headers = {Cookie = "userId=" .. session, Accept = "%(accept)s", ["X-Forwarded-For"] = "192.0.2.1",
      ["X-Forwarded-Proto"] = "http", ["X-Amzn-Trace-Id"] = "Root=1-67891233-abcdef012345678912345678"}
    if tags[number] then headers["If-None-Match"] = tags[number] end
    if "%(method)s" == "POST" then headers["Content-Type"] = "application/json" end
    requests[number] = wrk.format("%(method)s", nil, headers, %(body)s)
  end
end
local turn = 0
function request()
  turn = turn %% #requests + 1
  return requests[turn]
end
"""


def main() -> int:
    """Measure; the exit status tells whether every aim was met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="of each turn")
    parser.add_argument("--connections", type=int, default=16)
    arguments = parser.parse_args()
    with instance() as made:
        made.run(
            "cd /opt/memo/app && . /run/memo/shell && MEMO_DATABASE_USER=memo_owner"
            " MEMO_DATABASE_PASSWORD_FILE=/run/memo/owner /opt/memo/venv/bin/flask --app memo.wsgi migrate"
        )
        sessions = json.loads(
            made.run("cd /opt/memo/app && . /run/memo/shell && /opt/memo/venv/bin/python seed.py").splitlines()[-1]
        )
        for name, wsgi in CONTESTANTS.items():
            made.serve(name, wsgi)
        prepare(made, sessions)
        results: dict[Turn, list[dict[str, Any]]] = {turn: [] for turn in TURNS}
        for turn in TURNS:
            warm_up(made, turn, arguments.connections)
        for number in range(1, arguments.rounds + 1):
            for turn in TURNS:
                results[turn].append(take(made, turn, arguments.seconds, arguments.connections))
            print(f"round {number} of {arguments.rounds}", flush=True)
        return report(results)


def prepare(made: Instance, sessions: dict[str, list[str]]) -> None:
    """Write what wrk does for each task and contestant."""
    for turn in TURNS:
        tags = entity_tags(made, turn.contestant, sessions["reader"]) if turn.task == "unchanged" else []
        writes = turn.task == "new"
        script = WRK % {
            "sessions": ",".join(f'"{one}"' for one in sessions["writer" if writes else "reader"]),
            "tags": ",".join(f"'{tag}'" for tag in tags),
            "accept": "text/html" if turn.task == "page" else "application/json",
            "method": "POST" if writes else "GET",
            "body": '\'{"text": "우유 사기, and call home before the train leaves"}\'' if writes else "nil",
        }
        made.write(f"/etc/memo/{turn.task}-{turn.contestant}.lua", script)


def entity_tags(made: Instance, contestant: str, sessions: Sequence[str]) -> list[str]:
    """The ETag of each reader's list."""
    asked = "\n".join(
        f'next\nurl = "http://127.0.0.1/memo/memo"\ncookie = "userId={session}"\noutput = /dev/null\ndump-header = -'
        for session in sessions
    ).removeprefix("next\n")
    made.write("/etc/memo/curl", asked)
    config = f"/etc/memo/{contestant}.nginx.conf"
    made.run(f"nginx -c {config}")
    found = made.run("curl --silent --config /etc/memo/curl")
    made.run(f"nginx -c {config} -s quit; while [ -e /run/nginx.pid ]; do sleep 0.05; done")
    tags = [line.partition(" ")[2].strip() for line in found.splitlines() if line.lower().startswith("etag:")]
    if len(tags) != len(sessions):
        raise RuntimeError(f"{contestant}: {len(tags)} ETags for {len(sessions)} readers: {found[:500]}")
    return tags


def warm_up(made: Instance, turn: Turn, connections: int) -> None:
    """Connections, compiled statements and templates; and of the service, which keeps answers, one for everybody."""
    asked = int(take(made, turn, 1, connections)["requests"])
    while asked < USERS and turn.contestant == "memo" and turn.task != "new":
        asked += int(take(made, turn, 2, connections)["requests"])


def take(made: Instance, turn: Turn, seconds: int, connections: int) -> dict[str, Any]:
    """One turn; what it gave and cost."""
    path = "/memo/" if turn.task == "page" else "/memo/memo"
    before = {name: made.cpu_seconds(name) for name in (made.mysql, made.redis)}
    answer = made.run(
        f"python3 /opt/memo/app/slot.py /etc/memo/{turn.contestant}.nginx.conf memo-{turn.contestant}.service {seconds}"
        f" {connections} /etc/memo/{turn.task}-{turn.contestant}.lua http://127.0.0.1{path}"
    )
    found: dict[str, Any] = json.loads(answer)
    # At the end wrk leaves while answers are under way, which nginx logs as 499.
    if found["statuses"].pop("499", 0) > connections or not set(found["statuses"]) <= {str(turn.status)}:
        raise RuntimeError(f"{turn}: {found['statuses']}")
    for name, label in ((made.mysql, "mysql"), (made.redis, "redis")):
        found["cpu"][label] = 1000 * (made.cpu_seconds(name) - before[name]) / found["requests"]
    return found


def report(results: dict[Turn, list[dict[str, Any]]]) -> int:
    """Print the table; how many aims were missed."""
    rates = {turn: statistics.median(one["rate"] for one in found) for turn, found in results.items()}
    by_name = {(turn.task, turn.contestant): rate for turn, rate in rates.items()}
    rounds = len(results[HELLO])
    print(f"\nmedians of {rounds} rounds; CPU in ms for each request")
    parts = ("app", "nginx", "mysql", "redis", "journal")
    print(
        f"{'':28}{'req/s':>8}{'x plain':>9}{'x hello':>9}{'p50 ms':>8}{'p99 ms':>8}" + "".join(f"{p:>9}" for p in parts)
    )
    for turn, found in results.items():
        plain = by_name.get((turn.task, "straightforward"))
        cells = [f"{rates[turn]:8.0f}", f"{rates[turn] / plain:9.2f}" if plain else " " * 9]
        cells += [f"{rates[turn] / rates[HELLO]:9.2f}"]
        cells += [f"{statistics.median(one[key] for one in found):8.1f}" for key in ("p50", "p99")]
        cells += [f"{statistics.median(one['cpu'][part] for one in found):9.3f}" for part in parts]
        print(f"{turn.task + ', ' + turn.contestant:28}" + "".join(cells))
    missed = 0
    for task, other, aim in AIMS:
        # Of each round the ratio, then the median: turns of one round met the same machine.
        base = results[HELLO] if other == "hello" else results[Turn(task, other)]
        mine = next(found for turn, found in results.items() if (turn.task, turn.contestant) == (task, "memo"))
        ratio = statistics.median(a["rate"] / b["rate"] for a, b in zip(mine, base, strict=True))
        missed += ratio < aim
        print(f"{task}: {ratio:.2f} times {other}, aim {aim} {'' if ratio >= aim else '(missed)'}")
    last = results[Turn("new", "memo")][-1]
    workers = ", ".join(f"{one:.0f}" for one in last["worker_mib"])
    print(f"memory of a worker, MiB (proportional set size): {workers}")
    others = sum(sum(results[Turn("list", name)][-1]["worker_mib"]) for name in CONTESTANTS if name != "memo")
    used = last["instance_mib"] - others
    free = INSTANCE_MIB - KERNEL_MIB - used
    missed += free < 300
    print(
        f"the instance without the other contestants' workers: {used:.0f} MiB; of {INSTANCE_MIB} MiB, less"
        f" {KERNEL_MIB} for the kernel, {free:.0f} MiB are free, aim 300"
    )
    print(f"{missed} aims missed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
