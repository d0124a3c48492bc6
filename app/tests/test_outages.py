"""MySQL or Redis down, frozen, and back."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import orjson
import pymysql
import pytest
from flask import Flask
from memo import logs
from memo.breaker import Breaker, DependencyDown
from memo.config import Settings
from memo_testing.browser import JSON, Browser, assert_problem, body
from memo_testing.forwarder import Forwarder
from memo_testing.servers import Servers
from memo_testing.threads import at_once
from redis import Redis

from localcloud.naver import NaverStandIn

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}

SECONDS = 9
"""More than the time-outs of `stack` add up to, and less than PyMySQL's own for connecting, 10 s."""

SERVER_ENDED = {1205, 3024}
"""Waited too long for a lock, and took too long in all: MySQL's words. A connection we gave up is 2013, PyMySQL's."""

Lines = Callable[[], list[dict[str, object]]]


@dataclass
class Stack:
    """A browser on an application whose ways to MySQL and Redis can be cut."""

    browser: Browser
    mysql: Forwarder
    redis: Forwarder

    def another(self) -> Browser:
        """A browser with the same log-in."""
        other = Browser(self.browser.client.application, "")
        other.set_session_key(self.browser.session_key or "")
        return other

    def way(self, name: str) -> Forwarder:
        return self.mysql if name == "mysql" else self.redis


@pytest.fixture
def stack(settings: Settings, make_app: Callable[..., Flask], naver: NaverStandIn) -> Iterator[Stack]:
    mysql = Forwarder(settings.database_host, settings.database_port)
    redis = Forwarder(settings.redis_host, settings.redis_port)
    app = make_app(
        database_host="127.0.0.1",
        database_port=mysql.port,
        # Short, because tests wait for them, but longer than a server that is well takes on a machine that is busy.
        database_read_timeout=4,
        database_connect_timeout=2,
        redis_host="127.0.0.1",
        redis_port=redis.port,
        redis_timeout=1,
    )
    yield Stack(Browser(app, naver.url), mysql, redis)
    mysql.cut()
    redis.cut()


@pytest.fixture
def failures(stack: Stack) -> Iterator[Lines]:
    """The lines about requests that a dependency failed, so far."""
    stream = io.StringIO()
    logs.configure("INFO", stream)
    yield lambda: [
        line for line in map(orjson.loads, stream.getvalue().splitlines()) if line["logger"] == "memo.errors"
    ]
    logs.configure("INFO")


def soon(condition: Callable[[], bool]) -> bool:
    """Whether it comes true, in many times what a quiet machine takes."""
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.parametrize("down", ["mysql", "redis"])
@pytest.mark.parametrize("how", ["cut", "freeze"])
def test_outage_is_a_503_and_passes(stack: Stack, down: str, how: str) -> None:
    browser = stack.browser
    browser.log_in()
    browser.post("/memo", json={"text": "kept"})
    way = stack.way(down)
    getattr(way, how)()

    started = time.monotonic()
    page = browser.get("/", headers=HTML)
    assert time.monotonic() - started < SECONDS
    assert page.status_code == 503
    assert page.mimetype == "text/html"
    assert int(page.headers["Retry-After"]) > 0
    assert ("database" if down == "mysql" else "session store") in page.text

    for response in (browser.get("/memo", headers=JSON), browser.post("/memo", json={"text": "lost"})):
        problem = assert_problem(response, 503)
        assert problem["dependency"] == down
        assert response.headers["Retry-After"]

    assert browser.get("/alive").status_code == 200
    ready = browser.get("/ready")
    assert ready.status_code == 503
    assert body(ready)[down] == "down"
    assert body(ready)["redis" if down == "mysql" else "mysql"] == "ok"

    way.cut()
    way.mend()
    assert soon(lambda: browser.get("/ready").status_code == 200)
    assert browser.texts() == ["kept"]


@pytest.mark.parametrize("down", ["mysql", "redis"])
def test_a_restart_goes_unnoticed(stack: Stack, down: str) -> None:
    stack.browser.log_in()
    for _ in range(3):
        stack.way(down).cut()
        stack.way(down).mend()
        assert stack.browser.texts() == []


@pytest.mark.parametrize("down", ["mysql", "redis"])
def test_connections_that_outlived_a_restart_go_unnoticed(stack: Stack, down: str) -> None:
    """A host that restarted behind a packet filter does not even refuse what comes over old connections."""
    stack.browser.log_in()
    # As many at once as there are threads, so that the pool holds several connections.
    assert at_once(4, lambda _: stack.another().texts()) == [[]] * 4
    stack.way(down).strand()
    for _ in range(6):
        assert stack.browser.get("/memo", headers=JSON).status_code == 200


def test_a_connection_lost_after_the_last_query_cuts_no_answer_off(stack: Stack) -> None:
    app = stack.browser.client.application
    app.after_request(lambda response: (stack.mysql.cut(), response)[1])
    answer = stack.browser.get("/ready")
    assert answer.status_code == 200
    assert body(answer)["mysql"] == "ok"
    stack.mysql.mend()
    assert soon(lambda: stack.browser.get("/ready").status_code == 200)


def test_a_server_that_only_reads_is_said_and_left(stack: Stack, servers: Servers) -> None:
    """As in a failover: reading goes on, writing is refused, and the connections are not kept."""
    browser = stack.browser
    browser.log_in()
    try:
        servers.execute("SET GLOBAL super_read_only = ON")
        assert browser.texts() == []
        problem = assert_problem(browser.post("/memo", json={"text": "refused"}), 503)
        assert problem["dependency"] == "mysql"
        assert body(browser.get("/ready"))["mysql"] == "down"
    finally:
        servers.execute("SET GLOBAL super_read_only = OFF", "SET GLOBAL read_only = OFF")
    assert browser.post("/memo", json={"text": "taken"}).status_code == 200
    assert browser.texts() == ["taken"]


def test_a_lock_is_waited_for_only_so_long(stack: Stack, servers: Servers, settings: Settings, failures: Lines) -> None:
    """The server ends the wait, so nobody else is told that it is down."""
    stack.browser.log_in()
    holder = pymysql.connect(
        host=servers.mysql_host, port=servers.mysql_port, user=servers.mysql_user, password=servers.mysql_password
    )
    with holder, holder.cursor() as cursor:
        cursor.execute(f"LOCK TABLES {settings.database_name}.memos WRITE")
        assert_problem(stack.browser.get("/memo", headers=JSON), 503)
        (line,) = failures()
        assert line["number"] in SERVER_ENDED
        # Nothing of it is locked: the page of somebody without a session, and the user's name.
        assert stack.browser.get("/account", headers=HTML).status_code == 200
    assert stack.browser.texts() == []


def test_a_typed_text_is_in_the_error_page_and_can_be_sent_again(stack: Stack) -> None:
    browser = stack.browser
    browser.log_in()
    form = {"text": "<typed>\r\nin two lines", "key": "0123456789abcdef"}
    stack.mysql.cut()
    page = browser.post("/memos", data=form, headers={**HTML, "Accept-Language": "ko"})
    assert page.status_code == 503
    assert 'lang="ko"' in page.text
    assert ">\n&lt;typed&gt;" in page.text.replace("\r", "")
    assert 'value="0123456789abcdef"' in page.text
    stack.mysql.mend()
    assert soon(lambda: browser.get("/ready").status_code == 200)
    for _ in range(2):
        assert browser.post("/memos", data=form).status_code == 303
    assert browser.texts() == ["<typed>\nin two lines"]


@pytest.fixture
def full_redis(servers: Servers) -> Iterator[None]:
    """A Redis that takes no writes."""
    client = Redis(servers.redis_host, servers.redis_port, password=servers.redis_password)
    yield
    client.config_set("maxmemory", 0)
    client.close()


def test_reading_goes_on_when_redis_takes_no_writes(stack: Stack, servers: Servers, full_redis: None) -> None:
    browser = stack.browser
    browser.log_in()
    assert browser.post("/memo", json={"text": "stored"}).status_code == 200
    with Redis(servers.redis_host, servers.redis_port, password=servers.redis_password) as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", 1)
    # A write's fence would be in Redis.
    assert assert_problem(browser.post("/memo", json={"text": "refused"}), 503)["dependency"] == "redis"
    assert browser.texts() == ["stored"]
    page = browser.get("/", headers=HTML)
    assert page.status_code == 200
    assert "stored" in page.text
    assert body(browser.get("/ready"))["redis"] == "down"
    assert browser.get("/login", headers=HTML).status_code == 503


@pytest.mark.parametrize("down", ["mysql", "redis"])
def test_log_in_during_an_outage(stack: Stack, down: str) -> None:
    callback = stack.browser.authorize("minjun")
    stack.way(down).cut()
    assert stack.browser.client.get(callback, headers=HTML).status_code == 503
    assert stack.browser.session_key is None


def test_logout_is_not_claimed_when_redis_is_down(stack: Stack) -> None:
    stack.browser.log_in()
    stack.redis.cut()
    assert stack.browser.post("/logout", headers=HTML).status_code == 503
    stack.redis.mend()
    assert soon(lambda: stack.browser.get("/ready").status_code == 200)
    assert stack.browser.texts() == []
    assert stack.browser.post("/logout").status_code == 303


def test_both_down_at_start(settings: Settings, make_app: Callable[..., Flask]) -> None:
    client = make_app(database_host="127.0.0.1", database_port=1, redis_host="127.0.0.1", redis_port=1).test_client()
    assert client.get("/memo/alive").status_code == 200
    assert client.get("/memo/").status_code == 200  # nobody is logged in without a cookie
    assert client.get("/memo/login").status_code == 503
    assert body(client.get("/memo/ready")) == {"status": "unavailable", "mysql": "down", "redis": "down"}


def test_ready(browser: Browser) -> None:
    response = browser.get("/ready")
    assert response.status_code == 200
    assert body(response) == {"status": "ready", "mysql": "ok", "redis": "ok"}


def test_tables_missing_is_not_ready(make_app: Callable[..., Flask], owner_settings: Settings) -> None:
    app = make_app(
        database_user=owner_settings.database_user,
        database_password=owner_settings.database_password,
        database_name="mysql",
    )
    response = app.test_client().get("/memo/ready")
    assert response.status_code == 503
    assert body(response)["mysql"] == "down"


@pytest.mark.parametrize("down", ["mysql", "redis"])
def test_a_vanished_host_does_not_hold_the_workers(stack: Stack, down: str, failures: Lines) -> None:
    """The first one waits for the time-out; of twenty people at once who come after it, nobody asks the host again."""
    stack.browser.log_in()
    stack.way(down).freeze()
    stack.browser.get("/", headers=HTML)  # notices it
    assert at_once(20, lambda _: stack.another().get("/memo", headers=JSON).status_code) == [503] * 20
    noticed, *told = [line["error"] for line in failures()]
    assert noticed != DependencyDown.__name__
    assert told == [DependencyDown.__name__] * 20


class Dependency:
    """One that a test turns off and on, and that counts how often it was asked in the background."""

    def __init__(self) -> None:
        self.up = True
        self.asked = 0
        self.breaker = Breaker("mysql", (OSError,), self.answers, pause=0.02)

    def answers(self) -> bool:
        self.asked += 1
        return self.up

    def use(self) -> None:
        with self.breaker.guard():
            if not self.up:
                raise OSError("down")

    def usable(self) -> bool:
        try:
            self.use()
        except DependencyDown:
            return False
        return True


def test_breaker_asks_in_the_background_until_it_is_answered() -> None:
    dependency = Dependency()
    dependency.use()
    dependency.up = False
    with pytest.raises(OSError, match="down"):
        dependency.use()
    with pytest.raises(DependencyDown):
        dependency.use()
    assert soon(lambda: dependency.asked >= 3)
    assert not dependency.usable()
    dependency.up = True
    assert soon(dependency.usable)
    asked = dependency.asked
    time.sleep(0.1)  # five pauses, in which nobody may ask any more
    assert dependency.asked == asked


def test_breaker_counts_only_what_the_dependency_failed_at() -> None:
    dependency = Dependency()
    with pytest.raises(ValueError, match="other"), dependency.breaker.guard():
        raise ValueError("other")
    dependency.use()
    assert dependency.asked == 0


def test_breaker_forgets_failures_from_before_the_recovery() -> None:
    """A request that waits for its time-out still while others are served again."""
    dependency = Dependency()

    def slow() -> None:
        with dependency.breaker.guard():
            dependency.up = False
            with suppress(OSError):
                dependency.use()
            dependency.up = True
            assert soon(dependency.usable)
            raise OSError("too late")

    with pytest.raises(OSError, match="too late"):
        slow()
    dependency.use()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_breaker_does_not_stay_open_when_asking_breaks() -> None:
    def answers() -> bool:
        raise KeyError("a mistake in the program")

    breaker = Breaker("mysql", (OSError,), answers, pause=0.02)
    with pytest.raises(OSError, match="down"), breaker.guard():
        raise OSError("down")

    def usable() -> bool:
        with suppress(DependencyDown), breaker.guard():
            return True
        return False

    assert soon(usable)
