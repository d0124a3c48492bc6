"""Who is logged in, and who is about to: both in Redis, both with an end.

A browser holds a random key; Redis holds what the key stands for, under a keyed hash of it. Somebody who
reads Redis (a dump, a replica) can therefore not become a user.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from typing import Any, cast

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from memo.breaker import GuardedRedis
from memo.config import Settings

LOGIN_SECONDS = 600
"""How long a person may take at the provider."""

_TOKEN_BYTES = 32
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")
_CONNECT_SECONDS = 1

# One round trip, and no moment between reading and extending. Redis' own clock: the web hosts' may differ.
_TOUCH = """
local found = redis.call('HMGET', KEYS[1], 'user', 'end')
if not found[1] or not found[2] then return false end
local left = tonumber(found[2]) - tonumber(redis.call('TIME')[1])
if left <= 0 then redis.call('DEL', KEYS[1]) return false end
redis.call('EXPIRE', KEYS[1], math.min(left, tonumber(ARGV[1])))
return found[1]
"""
_CREATE = """
local finish = tonumber(redis.call('TIME')[1]) + tonumber(ARGV[3])
redis.call('HSET', KEYS[1], 'user', ARGV[1], 'end', finish)
redis.call('EXPIRE', KEYS[1], math.min(tonumber(ARGV[2]), tonumber(ARGV[3])))
return 1
"""


def connect(settings: Settings) -> Redis:
    """A client that connects when first used; every wait is bounded.

    One immediate retry repairs a pooled connection that Redis closed (a restart); redis-py's default, three
    retries with growing pauses, would hold a worker for seconds while Redis is down.
    """
    return GuardedRedis(
        host=settings.redis_host,
        port=settings.redis_port,
        password=settings.redis_password or None,
        socket_connect_timeout=min(_CONNECT_SECONDS, settings.redis_timeout),
        socket_timeout=settings.redis_timeout,
        retry=Retry(NoBackoff(), 1),
        decode_responses=True,
    )


def new_token() -> str:
    """256 random bits from the system's CSPRNG, as 43 letters."""
    return secrets.token_urlsafe(_TOKEN_BYTES)


def is_token(value: str | None) -> bool:
    """Whether a value can have come from `new_token`; nothing else is ever looked up."""
    return value is not None and _TOKEN.fullmatch(value) is not None


class _Keyed:
    def __init__(self, secret_key: str) -> None:
        self._secret = secret_key.encode()

    def hash(self, purpose: str, token: str) -> str:
        return hmac.new(self._secret, f"{purpose}:{token}".encode(), hashlib.sha256).hexdigest()

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
        self._idle = idle_seconds
        self._absolute = absolute_seconds
        self._touch = redis.register_script(_TOUCH)
        self._create = redis.register_script(_CREATE)

    def create(self, user_id: str) -> str:
        """Start a session.

        Returns:
            The key for the browser.
        """
        token = new_token()
        self._create(keys=[self._keyed.key("session", token)], args=[user_id, self._idle, self._absolute])
        return token

    def user(self, token: str | None) -> str | None:
        """The id of the user a key stands for; asking keeps the session from idling out."""
        if not is_token(token):
            return None
        return cast(str | None, self._touch(keys=[self._keyed.key("session", cast(str, token))], args=[self._idle]))

    def end(self, token: str | None) -> None:
        """End a session, if there is one."""
        if is_token(token):
            self._redis.delete(self._keyed.key("session", cast(str, token)))


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
