"""Faults of the service's parts, injected for real while people use it, and what those people saw.

Each fault is a context manager: inside it the part is broken; when it ends, the part answers again. `measure` holds it
for a while under load, waits until nobody is refused any more, and gives a row of figures.
"""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

from endtoend.load import Answer, Load
from endtoend.people import Person
from endtoend.stack import Stack
from endtoend.waiting import until

RATE = 24.0
"""Requests a second: enough to see every second of an outage, and no load."""

SETTLED_SECONDS = 1.5
_RECOVERY_SECONDS = 60.0
_TABLE = "memo_fault"

_MYSQL = """
sql() { docker exec -i memo-mysql sh -c 'MYSQL_PWD=$(cat /run/secrets/root-password) exec mysql -uroot -N'; }
answers() {
  docker exec memo-mysql mysql --defaults-extra-file=/run/secrets/client.cnf --execute='SELECT 1' >/dev/null 2>&1
}
until_answers() { n=0; until answers; do n=$((n + 1)); [ $n -lt 300 ] || exit 1; sleep 0.1; done; }
kill_connections() {
  echo "SELECT CONCAT('KILL ', id, ';') FROM information_schema.processlist WHERE user = 'memo'" | sql | sql || true
}
holders() {
  echo "SELECT CONCAT('KILL ', id, ';') FROM information_schema.processlist WHERE info LIKE 'DO SLEEP%'" | sql
}
"""
_REDIS = """
conf=/etc/memo-redis/redis.conf
answers() {
  docker exec memo-redis sh -c 'REDISCLI_AUTH="$(cat /run/secrets/password)" redis-cli -h 127.0.0.1 ping' 2>&1 |
    grep -qx "$1"
}
until_answers() { n=0; until answers "$1"; do n=$((n + 1)); [ $n -lt 300 ] || exit 1; sleep 0.1; done; }
# The container mounts this very file, so it is written to, never replaced.
changed() { cp $conf /run/redis.conf.good && cat >>$conf && docker restart --time 5 memo-redis; }
restored() { cat /run/redis.conf.good >$conf && docker restart --time 5 memo-redis && until_answers PONG; }
"""
_WEB = """
workers() { pgrep --parent "$(systemctl show --property=MainPID --value memo.service)"; }
"""


@dataclass
class Hosts:
    """The hosts that faults are injected on.

    Args:
        stack: the installation.
    """

    stack: Stack

    def mysql(self, script: str) -> str:
        """Run a shell script on DB-Server as root, with functions for MySQL at hand."""
        return self._run("db-server", _MYSQL + script)

    def redis(self, script: str) -> str:
        """The same, with functions for Redis."""
        return self._run("db-server", _REDIS + script)

    def web(self, script: str) -> str:
        """Run a shell script on the fleet's instance as root, with functions for uWSGI."""
        return self._run("web-fleet", _WEB + script)

    @contextmanager
    def cut_off(self) -> Iterator[None]:
        """Drop every packet between the fleet's instance and DB-Server, both ways, on the router between them."""
        web, database = (self.stack.instance(role)["PrivateIpAddress"] for role in ("web-fleet", "db-server"))
        rules = f"""
            table inet {_TABLE} {{
              chain forward {{
                type filter hook forward priority -300;
                ip saddr {web} ip daddr {database} drop
                ip saddr {database} ip daddr {web} drop
              }}
            }}
        """
        subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True, timeout=10)
        try:
            yield
        finally:
            subprocess.run(["nft", "delete", "table", "inet", _TABLE], check=True, timeout=10)

    def _run(self, role: str, script: str) -> str:
        return self.stack.ssh(self.stack.instance(role), "sudo", "sh", "-eu", "-s", script=script)


Injection = Callable[[Hosts], AbstractContextManager[None]]


@dataclass(frozen=True)
class Fault:
    """One fault.

    Args:
        name: what is broken, for people.
        inject: breaks it, and mends it at the end.
        hold: seconds that it lasts.
        slowest: seconds that the slowest answer may take.
        recovery: seconds after its end within which nobody is refused any more.
        quick: whether every run of the tests tries it; the others are for the benchmark.
    """

    name: str
    inject: Injection
    hold: float = 4.0
    slowest: float = 7.0
    recovery: float = 3.0
    quick: bool = False


@dataclass
class Row:
    """What people saw of one fault.

    Args:
        fault: which.
        answers: the requests from its beginning until they were all well again.
        injected: seconds that the part was broken.
        recovery: seconds from its end until the last refusal; 0 when nobody was refused after it.
        page: status of the page for people while it lasted, and what it said.
        acknowledged: memos that were acknowledged, and are all there once.
    """

    fault: Fault
    answers: list[Answer]
    injected: float
    recovery: float
    page: tuple[int, str]
    acknowledged: int = 0
    refused: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.refused = Counter(f"{one.method} {one.problem}" for one in self.answers if one.problem)

    @property
    def problems(self) -> set[str]:
        """The kinds of refusals."""
        return {one.problem for one in self.answers if one.problem}

    @property
    def slowest(self) -> float:
        """Seconds of the slowest answer."""
        return max(one.seconds for one in self.answers)

    def __str__(self) -> str:
        served = sum(not one.problem for one in self.answers)
        refused = ", ".join(f"{count} × {words}" for words, count in sorted(self.refused.items())) or "none"
        return (
            f"| {self.fault.name} | {self.injected:.1f} | {served} | {refused} | {self.slowest:.2f} | "
            f"{self.recovery:.1f} | {self.page[0]} | {self.acknowledged} |"
        )


HEADER = (
    "| fault | lasted, s | served | refused | slowest answer, s | after its end, s | page | memos, all there once |\n"
    "|---|---|---|---|---|---|---|---|"
)


def measure(stack: Stack, people: list[Person], fault: Fault) -> Row:
    """Inject one fault under load.

    Args:
        stack: the installation, well.
        people: who are logged in; one of them looks at the page, the others read and write.
        fault: which.

    Returns:
        The figures; the ledger of written memos was checked.
    """
    reader, *writers = people
    load = Load(writers, RATE)
    load.start()
    try:
        until(lambda: len(load.of("before")) >= RATE / 2, "load before the fault", timeout=20, poll=0.1)
        with load.phase("fault"):
            started = time.monotonic()
            with fault.inject(Hosts(stack)):
                broken = time.monotonic()
                page = _page(reader)
                time.sleep(max(0.0, broken + fault.hold - time.monotonic()))  # the fault's own length
            ended = time.monotonic()
            _until_settled(load)
    finally:
        load.stop()
    assert not load.failed("before"), f"not well before the fault:\n{load.report()}"
    answers = load.of("fault")
    last = max((one.at + one.seconds for one in answers if one.problem), default=ended)
    row = Row(fault, answers, ended - started, max(0.0, last - ended), page)
    row.acknowledged = load.check_ledger()
    return row


def _until_settled(load: Load) -> None:
    since = time.monotonic()

    def settled() -> bool:
        ends = [one.at + one.seconds for one in load.failed("fault")]
        begun = [one for one in load.of("fault") if one.at > max([since, *ends])]
        return time.monotonic() - max([since, *ends]) > SETTLED_SECONDS and len(begun) >= RATE / 2

    until(settled, "the end of all refusals", timeout=_RECOVERY_SECONDS, poll=0.1)


def _page(person: Person) -> tuple[int, str]:
    answer = person.get(**{"Accept": "text/html", "Accept-Language": "ko"})
    return answer.status_code, answer.text


def _container(name: str, begin: str, end: str) -> Injection:
    """A fault that one command on DB-Server begins and another ends."""

    @contextmanager
    def inject(hosts: Hosts) -> Generator[None]:
        run = hosts.mysql if name == "memo-mysql" else hosts.redis
        awake = "until_answers" if name == "memo-mysql" else "until_answers PONG"
        run(begin)
        try:
            yield
        finally:
            run(f"{end}\n{awake}")

    return inject


@contextmanager
def _slow_mysql(hosts: Hosts) -> Generator[None]:
    hosts.mysql("""
        systemd-run --quiet --collect --unit=memo-fault sh -c '
          while true; do
            docker kill --signal=STOP memo-mysql; sleep 0.6; docker kill --signal=CONT memo-mysql; sleep 0.2
          done'
    """)
    try:
        yield
    finally:
        hosts.mysql("systemctl stop memo-fault.service || true; docker kill --signal=CONT memo-mysql; until_answers")


@contextmanager
def _locked_table(hosts: Hosts) -> Generator[None]:
    hosts.mysql("""
        systemd-run --quiet --collect --unit=memo-fault docker exec memo-mysql sh -c \
          'MYSQL_PWD=$(cat /run/secrets/root-password) mysql -uroot memo -e "LOCK TABLES memos WRITE; DO SLEEP(60)"'
        n=0
        until holders | grep -q KILL; do n=$((n + 1)); [ $n -lt 100 ] || exit 1; sleep 0.1; done
    """)
    try:
        yield
    finally:
        hosts.mysql("holders | sql; systemctl stop memo-fault.service || true")


def _redis_settings(*lines: str, says: str) -> Injection:
    """Redis restarted with further settings; it is mended by another restart."""

    @contextmanager
    def inject(hosts: Hosts) -> Generator[None]:
        wait = f"until_answers {says}" if says else ""
        hosts.redis("changed <<'TEXT'\n" + "\n".join(lines) + f"\nTEXT\n{wait}")
        try:
            yield
        finally:
            hosts.redis("restored")

    return inject


@contextmanager
def _full_data_volume(hosts: Hosts) -> Generator[None]:
    hosts.redis("""
        fallocate --length "$(($(stat --file-system --format='%f * %S' /srv/memo-data)))" /srv/memo-data/fill || true
        dd if=/dev/zero of=/srv/memo-data/fill oflag=append conv=notrunc bs=4k status=none 2>/dev/null || true
    """)
    try:
        yield
    finally:
        hosts.redis("rm /srv/memo-data/fill; until_answers PONG")


@contextmanager
def _full_web_disk(hosts: Hosts) -> Generator[None]:
    """Where nginx writes: its log, bodies that are long, answers that are read slowly."""
    hosts.web("""
        for folder in /var/log/nginx /var/lib/nginx; do
          mount -t tmpfs -o size=64k,mode=0755 fault $folder
          dd if=/dev/zero of=$folder/fill bs=4k status=none 2>/dev/null || true
        done
        mkdir -p /var/lib/nginx/body /var/lib/nginx/uwsgi; chown www-data /var/lib/nginx/body /var/lib/nginx/uwsgi
        nginx -s reopen
    """)
    try:
        yield
    finally:
        hosts.web("""
            umount --lazy /var/log/nginx /var/lib/nginx
            nginx -s reopen
        """)


@contextmanager
def _worker_stopped(hosts: Hosts) -> Generator[None]:
    """With requests in it: the master kills it after the harakiri time-out, and starts another."""
    with _locked_table(hosts):
        pid = hosts.web("pid=$(workers | head -n 1); kill -STOP $pid; echo $pid").strip()
    yield
    hosts.web(f"n=0; while kill -0 {pid} 2>/dev/null; do n=$((n + 1)); [ $n -lt 400 ] || exit 1; sleep 0.1; done")


@contextmanager
def _worker_killed(hosts: Hosts) -> Generator[None]:
    hosts.web("workers | head -n 1 | xargs kill -KILL")
    yield


@contextmanager
def _workers_killed(hosts: Hosts) -> Generator[None]:
    """Nobody answers until the application is loaded again; where that takes long, the balancer takes the host out."""
    hosts.web("workers | xargs kill -KILL")
    yield


@contextmanager
def _cut_off(hosts: Hosts) -> Generator[None]:
    with hosts.cut_off():
        yield


_READ_ONLY = "echo 'SET GLOBAL super_read_only = ON' | sql"
_WRITABLE = "echo 'SET GLOBAL super_read_only = OFF; SET GLOBAL read_only = OFF' | sql"
_STOP = "docker kill --signal=STOP"
_CONT = "docker kill --signal=CONT"

FAULTS = [
    Fault("MySQL stopped", _container("memo-mysql", "docker stop memo-mysql", "docker start memo-mysql"), quick=True),
    Fault("MySQL killed", _container("memo-mysql", "docker kill memo-mysql", "docker start memo-mysql")),
    Fault("MySQL restarted", _container("memo-mysql", "docker restart memo-mysql", "true"), hold=0),
    Fault("MySQL hangs (SIGSTOP)", _container("memo-mysql", f"{_STOP} memo-mysql", f"{_CONT} memo-mysql"), quick=True),
    Fault("MySQL read-only", _container("memo-mysql", _READ_ONLY, _WRITABLE)),
    Fault(
        "MySQL fails over: read-only, then every connection killed",
        _container("memo-mysql", _READ_ONLY, f"{_WRITABLE}; kill_connections"),
        hold=2,
        quick=True,
    ),
    Fault("MySQL slow (stopped 3/4 of the time)", _slow_mysql),
    Fault("a table locked", _locked_table),
    Fault("Redis stopped", _container("memo-redis", "docker stop memo-redis", "docker start memo-redis"), quick=True),
    Fault("Redis restarted", _container("memo-redis", "docker restart memo-redis", "true"), hold=0),
    Fault("Redis hangs (SIGSTOP)", _container("memo-redis", f"{_STOP} memo-redis", f"{_CONT} memo-redis"), quick=True),
    Fault("Redis a read-only replica", _redis_settings("replicaof 192.0.2.1 6379", says="PONG"), quick=True),
    Fault("Redis out of memory", _redis_settings("maxmemory 1", "maxmemory-policy noeviction", says="PONG")),
    Fault(
        "Redis loads its file for seconds",
        _redis_settings("key-load-delay 3000", "loading-process-events-interval-bytes 1024", says=""),
    ),
    Fault("packets between web host and DB-Server dropped", _cut_off, quick=True),
    Fault("data volume full (MySQL and Redis)", _full_data_volume),
    Fault("web host's disk full", _full_web_disk),
    Fault("one of two uWSGI workers killed", _worker_killed, hold=1, quick=True),
    Fault("both uWSGI workers killed", _workers_killed, hold=1, slowest=15),
    Fault("one uWSGI worker hangs (SIGSTOP)", _worker_stopped, slowest=40),
]
