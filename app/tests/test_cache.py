"""What is kept in Redis is never older than what was acknowledged."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from io import BytesIO

import pymysql
import pytest
from flask import Flask
from memo import admission, cache, scripts
from memo.admission import Admission
from memo.cache import MemoCache
from memo.config import Settings
from memo.limits import bucket
from memo.sessions import SessionStore, connect
from memo_testing.browser import JSON, Browser, assert_problem, body
from memo_testing.forwarder import Forwarder
from redis import Redis

from localcloud.naver import NaverStandIn

NO_LIMIT = bucket("test", 0, 1)
VALUE = f"{2**33:010}{'e' * 40}{2:04}[]the body".encode()

# What the version before the cache did with each request, and with each log-in.
OLD_TOUCH = """
redis.call('ZADD', KEYS[1], redis.call('HGET', KEYS[2], 'end'), KEYS[2])
redis.call('EXPIRE', KEYS[1], ARGV[1])
"""


class Reader:
    """Somebody with a session, as the lane asks for them."""

    def __init__(self, redis: Redis, absolute: int = 600) -> None:
        self.redis, self.absolute = redis, absolute
        self.user = f"cache-{secrets.token_hex(6)}"
        self.sessions = SessionStore(redis, "s" * 40, 60, absolute)
        self.session = self.sessions.key(self.sessions.create(self.user)) or ""
        self.cache = MemoCache(redis)
        self.admission = Admission(redis, 60, NO_LIMIT, NO_LIMIT)

    def read(self) -> admission.Admitted:
        return self.admission.read(self.session, "v:list", "")

    def fill(self) -> bool:
        return self.cache.store(self.user, self.read().lease, "v:list", VALUE)

    def old_version_works(self) -> None:
        self.redis.eval(OLD_TOUCH, 2, scripts.SESSION_LISTS + self.user, self.session, self.absolute)


def seconds(redis: Redis) -> int:
    """What its clock says."""
    return int(redis.time()[0])


@pytest.fixture
def redis(settings: Settings) -> Redis:
    return connect(settings)


@pytest.fixture
def reader(redis: Redis) -> Iterator[Reader]:
    made = Reader(redis)
    assert made.fill()
    yield made
    redis.delete(scripts.CACHES + made.user, scripts.WRITING + made.user)


def test_what_is_kept_is_given_back(reader: Reader) -> None:
    found = reader.read()
    assert (found.user_id, found.answer, found.same) == (reader.user, VALUE, False)
    found = reader.admission.read(reader.session, "v:list", "e" * 40)
    assert (found.same, found.answer) == (True, VALUE[:56])
    assert reader.admission.read(reader.session, "v:other", "").lease


def test_it_is_over_in_time(reader: Reader, redis: Redis) -> None:
    assert 0 < redis.ttl(scripts.CACHES + reader.user) <= cache.LIFETIME_SECONDS
    reader.cache.store(
        reader.user, reader.admission.read(reader.session, "v:x", "").lease, "v:x", b"0000000001" + VALUE[10:]
    )
    assert reader.admission.read(reader.session, "v:x", "").answer == b""


def test_a_reader_who_began_before_a_change_keeps_nothing(reader: Reader) -> None:
    with reader.cache.changing(reader.user):
        pass
    early = reader.read().lease
    with reader.cache.changing(reader.user):
        assert not reader.cache.store(reader.user, early, "v:list", VALUE)
        during = reader.read()
        assert (during.answer, during.lease) == (b"", b"")
        assert reader.admission.read(reader.session, "v:list", "").lease == b""
    assert not reader.cache.store(reader.user, early, "v:list", VALUE)
    assert reader.fill()


def test_two_writers_at_once(reader: Reader) -> None:
    with reader.cache.changing(reader.user):
        with reader.cache.changing(reader.user):
            pass
        assert reader.read().lease == b""
    assert reader.fill()


def test_the_fence_of_a_writer_that_died_ends(reader: Reader, redis: Redis) -> None:
    fences = scripts.WRITING + reader.user
    before = seconds(redis)
    reader.cache._begin(keys=[], args=[reader.user, "died", scripts.FENCE_SECONDS])
    assert reader.read().lease == b""
    assert redis.ttl(fences) == -1  # or it could be evicted when memory is short
    assert (
        before + scripts.FENCE_SECONDS
        <= float(str(redis.zscore(fences, "died")))
        <= seconds(redis) + scripts.FENCE_SECONDS
    )
    redis.zadd(fences, {"died": seconds(redis)})  # so much later
    assert reader.read().lease
    assert not redis.exists(scripts.WRITING + reader.user)


def test_a_crash_of_redis_brings_nothing_old_back(reader: Reader, redis: Redis) -> None:
    """It forgets its scripts, and may have forgotten fences and removals of its last second."""
    redis.script_flush()
    before = seconds(redis)
    found = reader.read()
    assert (found.answer, found.lease) == (b"", b"")
    epoch = str(redis.get(scripts.CACHE_EPOCH))
    # Those who wrote while it crashed get the time to finish; then answers are kept again.
    assert int(epoch.partition(":")[2]) >= before + scripts.FENCE_SECONDS
    redis.set(scripts.CACHE_EPOCH, epoch.partition(":")[0] + ":0")
    assert reader.read().answer == b""
    assert reader.fill()


def test_a_sign_of_the_version_before_is_noticed(reader: Reader, redis: Redis) -> None:
    assert reader.read().answer
    reader.old_version_works()
    before = seconds(redis)
    assert (reader.read().answer, reader.read().lease) == (b"", b"")
    fences = redis.zrange(scripts.WRITING + reader.user, 0, -1, withscores=True)
    assert float(fences[0][1]) >= before + scripts.OTHER_VERSION_SECONDS
    redis.delete(scripts.WRITING + reader.user)
    assert reader.fill()


@pytest.mark.parametrize("change", ["log in", "look", "end another", "touch"])
def test_nothing_wipes_that_sign_away(reader: Reader, change: str) -> None:
    another = reader.sessions.create(reader.user)
    reader.old_version_works()
    if change == "log in":
        reader.sessions.create(reader.user)
    elif change == "look":
        reader.sessions.of(reader.user)
    elif change == "end another":
        reader.sessions.end(another)
    else:
        reader.sessions.user(another)
    assert reader.read().answer == b""


def test_own_work_is_no_such_sign(reader: Reader) -> None:
    keys = [reader.sessions.create(reader.user) for _ in range(3)]
    reader.sessions.user(keys[0])
    assert len(reader.sessions.of(reader.user)) == 4
    for key in keys:
        reader.sessions.end(key)
    assert reader.read().answer == VALUE


def test_a_session_list_of_the_version_before_is_taken_over(redis: Redis) -> None:
    made = Reader(redis)
    redis.delete(scripts.SESSION_LISTS + made.user)
    made.read()
    assert len(made.sessions.of(made.user)) == 1
    redis.delete(scripts.WRITING + made.user)


def test_a_large_answer_is_not_kept(reader: Reader) -> None:
    lease = reader.admission.read(reader.session, "v:big", "").lease
    assert not reader.cache.store(reader.user, lease, "v:big", VALUE + b"x" * cache.MOST_BYTES)


def changes(browser: Browser) -> dict[str, Callable[[], object]]:
    """Every way to change what is shown."""
    first, second = (body(browser.post("/memo", json={"text": text}))["id"] for text in ("first", "second"))
    return {
        "new": lambda: browser.post("/memo", json={"text": "third"}),
        "new, repeatable": lambda: browser.post("/memo", json={"text": "4th"}, headers={"Idempotency-Key": "k"}),
        "form": lambda: browser.post("/memos", data={"text": "fifth"}),
        "text": lambda: browser.patch(f"/memo/{first}", json={"text": "changed"}),
        "pin": lambda: browser.post(f"/memos/{first}/pin", data={"pinned": "1"}),
        "delete": lambda: browser.delete(f"/memo/{second}"),
        "restore": lambda: browser.post(f"/memos/{second}/restore"),
        "import": lambda: browser.client.post(
            browser.prefix + "/import",
            data={"file": (BytesIO(browser.get("/export").data.replace(b"fifth", b"6th")), "m.json")},
        ),
    }


def test_every_change_is_seen_at_once(browser: Browser, make_app: Callable[..., Flask], naver: NaverStandIn) -> None:
    browser.log_in()
    other = Browser(make_app(), naver.url)
    other.set_session_key(browser.session_key or "")
    for name, change in changes(browser).items():
        before = [(one.get("/memo").data, one.page()) for one in (browser, other)]
        change()
        after = [(one.get("/memo").data, one.page()) for one in (other, browser)]
        assert after[0][0] == after[1][0] == browser.get("/memo?limit=100").data, name
        assert after[0][0] != before[0][0], name
        assert after[0][1] != before[0][1], name


def test_a_new_name_is_seen_at_once(browser: Browser, sql: pymysql.cursors.Cursor, app: Flask) -> None:
    browser.log_in()
    browser.post("/memo", json={"text": "a"})
    sql.execute("UPDATE memos SET created_at = '2026-01-02', updated_at = '2026-01-02'")
    assert "김민준" in browser.page()
    user = app.extensions["memo"].sessions.user(browser.session_key)
    with app.app_context():
        app.extensions["memo"].users.save(user, "새 이름")
    assert "새 이름" in browser.page()


def test_an_account_that_is_gone_shows_nothing(browser: Browser, new_browser: Callable[[], Browser]) -> None:
    browser.log_in()
    browser.post("/memo", json={"text": "a"})
    other = new_browser()
    other.log_in()
    assert browser.texts() == other.texts() == ["a"]
    browser.post("/account/delete", data={"confirm": "delete"})
    assert other.get("/memo", headers=JSON).status_code == 401


@pytest.mark.parametrize("how", ["cut", "freeze"])
def test_a_change_is_refused_when_it_cannot_be_fenced(
    browser: Browser, make_app: Callable[..., Flask], settings: Settings, naver: NaverStandIn, how: str
) -> None:
    """By a token, which needs no session: else that alone would refuse it."""
    browser.log_in()
    token = body(browser.post("/tokens", json={"name": "t"}))["token"]
    way = Forwarder(settings.redis_host, settings.redis_port)
    app = make_app(redis_host="127.0.0.1", redis_port=way.port, redis_timeout=0.5)
    program = Browser(app, naver.url)
    headers = {"Authorization": f"Bearer {token}", **JSON}
    assert program.post("/memo", json={"text": "kept"}, headers=headers).status_code == 200
    getattr(way, how)()
    problem = assert_problem(program.post("/memo", json={"text": "lost"}, headers=headers), 503)
    assert problem["dependency"] == "redis"
    way.cut()
    assert browser.texts() == ["kept"]
