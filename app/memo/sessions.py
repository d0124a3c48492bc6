"""Who is logged in, and who is about to: both in Redis, both with an end.

A browser holds a random key; Redis holds what the key stands for, under a keyed hash of it. Somebody who
reads Redis (a dump, a replica) can therefore not become a user.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError
from redis.retry import Retry

from memo import scripts
from memo.breaker import GuardedRedis
from memo.config import Settings

LOGIN_SECONDS = 600
"""How long a person may take at the provider."""

_TOKEN_BYTES = 32
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
_CONNECT_SECONDS = 1
_SESSIONS = scripts.SESSIONS
_LISTS = scripts.SESSION_LISTS
_NAME = re.compile(r"[0-9a-f]{64}")

_TOUCH = scripts.SESSION + "return touch(KEYS[1], ARGV[1])"
_CREATE = (
    scripts.SESSION
    + """
local known = redis.call('EXISTS', KEYS[2]) == 0 or ours(KEYS[2])
local finish = now + tonumber(ARGV[3])
redis.call('HSET', KEYS[1], 'user', ARGV[1], 'end', finish, 'made', now, 'seen', now, 'agent', ARGV[4])
redis.call('EXPIRE', KEYS[1], math.min(tonumber(ARGV[2]), tonumber(ARGV[3])))
redis.call('ZADD', KEYS[2], finish, KEYS[1])
if not known then other_version_worked(ARGV[1]) end
mark(KEYS[2])
return 1
"""
)
_LIST = (
    scripts.SESSION
    + """
local known = ours(KEYS[1])
local live = {}
for _, key in ipairs(redis.call('ZREVRANGE', KEYS[1], 0, -1)) do
  local found = redis.call('HMGET', key, 'user', 'seen', 'agent')
  if found[1] then table.insert(live, {key, found[2] or '', found[3] or ''}) else redis.call('ZREM', KEYS[1], key) end
end
if known then mark(KEYS[1]) end
return live
"""
)
_END = (
    scripts.SESSION
    + """
local user = redis.call('HGET', KEYS[1], 'user')
if not user then return 0 end
if ARGV[2] ~= '' and user ~= ARGV[2] then return 0 end
local list = ARGV[1] .. user
local known = ours(list)
redis.call('ZREM', list, KEYS[1])
if known then mark(list) end
return redis.call('DEL', KEYS[1])
"""
)
_AGENT_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class LiveSession:
    """A session as its owner sees it: `name` tells it from others and is no key to it."""

    name: str
    seen_at: datetime | None
    agent: str


def connect(settings: Settings) -> GuardedRedis:
    """A client that connects when first used; every wait is bounded.

    It repairs connections that outlived Redis itself (memo/breaker.py); redis-py's own retries, three with growing
    pauses, would hold a worker for seconds while Redis is down.
    """
    return GuardedRedis(
        host=settings.redis_host,
        port=settings.redis_port,
        password=settings.redis_password or None,
        socket_connect_timeout=min(_CONNECT_SECONDS, settings.redis_timeout),
        socket_timeout=settings.redis_timeout,
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
    )


def new_token() -> str:
    """256 random bits from the system's CSPRNG, as 43 letters."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


def is_token(value: str | None) -> bool:
    """Whether a value can have come from `new_token`; nothing else is ever looked up."""
    return value is not None and _TOKEN.fullmatch(value) is not None


def takes_no_writes(error: ResponseError) -> bool:
    """Whether Redis is a replica, or its memory or its disk is full; MISCONF has no class of its own in redis-py."""
    return isinstance(error, ReadOnlyError | OutOfMemoryError) or str(error).startswith("MISCONF")


class _Keyed:
    def __init__(self, secret_key: str) -> None:
        self._secret = secret_key.encode()

    def hash(self, purpose: str, token: str) -> str:
        return hmac.digest(self._secret, f"{purpose}:{token}".encode(), "sha256").hex()

    def key(self, purpose: str, token: str) -> str:
        return f"memo:{purpose}:{self.hash(purpose, token)}"


class SessionStore:
    """Log-ins: a random key stands for a user until it idles too long, is too old, or is ended.

    Args:
        redis: the client.
        secret_key: keys the hashes; a new one ends every session.
        idle_seconds: end after so long without a request.
        absolute_seconds: end after so long in any case.
    """

    def __init__(self, redis: Redis, secret_key: str, idle_seconds: int, absolute_seconds: int) -> None:
        self._keyed = _Keyed(secret_key)
        self._redis = redis
        self.idle_seconds = idle_seconds
        self._absolute = absolute_seconds
        self._touch = redis.register_script(_TOUCH)
        self._create = redis.register_script(_CREATE)
        self._list = redis.register_script(_LIST)
        self._end = redis.register_script(_END)

    def create(self, user_id: str, agent: str = "") -> str:
        """Start a session.

        Args:
            user_id: whose.
            agent: the browser's User-Agent, by which its owner can tell it from others.

        Returns:
            The key for the browser.
        """
        token = new_token()
        self._create(
            keys=[self._keyed.key("session", token), _LISTS + user_id],
            args=[user_id, self.idle_seconds, self._absolute, agent[:_AGENT_CHARACTERS]],
        )
        return token

    def user(self, token: str | None) -> str | None:
        """The id of the user a key stands for; asking keeps the session from idling out."""
        key = self.key(token)
        if key is None:
            return None
        try:
            return cast(str | None, self._touch(keys=[key], args=[self.idle_seconds]))
        except ResponseError as error:
            if not takes_no_writes(error):
                raise
            # The key still ends in time, as if it had not been used.
            return cast(str | None, self._redis.hget(key, "user"))

    def key(self, token: str | None) -> str | None:
        """Under what Redis has a session, None for what cannot be a browser's key."""
        return self._keyed.key("session", cast(str, token)) if is_token(token) else None

    def end(self, token: str | None) -> None:
        """End a session, if there is one."""
        if is_token(token):
            self._end(keys=[self._keyed.key("session", cast(str, token))], args=[_LISTS, ""])

    def name(self, token: str | None) -> str:
        """What a session is called in `of`; the key cannot be told from it."""
        return self._keyed.hash("session", token) if token else ""

    def of(self, user_id: str) -> Sequence[LiveSession]:
        """A user's sessions, those that last longest first."""
        found = cast(list[tuple[str, str, str]], self._list(keys=[_LISTS + user_id]))
        return [
            LiveSession(key.removeprefix(_SESSIONS), datetime.fromtimestamp(int(seen), UTC) if seen else None, agent)
            for key, seen, agent in found
        ]

    def end_named(self, user_id: str, name: str) -> bool:
        """End one of a user's sessions.

        Returns:
            False when the user has no such session.
        """
        if _NAME.fullmatch(name) is None:
            return False
        return bool(self._end(keys=[_SESSIONS + name], args=[_LISTS, user_id]))

    def end_all(self, user_id: str, but: str = "") -> int:
        """End a user's sessions, but for the one of this name.

        Returns:
            How many.
        """
        return sum(self.end_named(user_id, session.name) for session in self.of(user_id) if session.name != but)

    def end_everybodys(self) -> int:
        """End every session there is.

        Returns:
            How many.
        """
        ended = 0
        for key in self._redis.scan_iter(f"{_SESSIONS}*", count=1000):
            ended += int(self._redis.unlink(str(key)))
        return ended


class LoginStore:
    """Log-ins under way: OAuth `state` values, each good once, for a while, and in one browser.

    Args:
        redis: the client.
        secret_key: keys the hashes.
        seconds: how long a state stays good.
    """

    def __init__(self, redis: Redis, secret_key: str, seconds: int = LOGIN_SECONDS) -> None:
        self._keyed = _Keyed(secret_key)
        self._redis = redis
        self._seconds = seconds

    def begin(self, browser: str) -> str:
        """Start a log-in.

        Args:
            browser: the random key that this browser holds in a cookie.

        Returns:
            The `state` to send to the provider (RFC 6749, section 10.12).
        """
        state = new_token()
        self._redis.set(self._keyed.key("login", state), self._keyed.hash("browser", browser), ex=self._seconds)
        return state

    def finish(self, state: str | None, browser: str | None) -> bool:
        """Use a state up.

        Returns:
            Whether this browser began a log-in with this state a short while ago and did not finish it yet.
        """
        if not is_token(state):
            return False
        stored = cast(Any, self._redis.getdel(self._keyed.key("login", cast(str, state))))
        if stored is None or not is_token(browser):
            return False
        return hmac.compare_digest(str(stored), self._keyed.hash("browser", cast(str, browser)))
