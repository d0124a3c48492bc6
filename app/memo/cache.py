"""Finished answers of one user, kept in Redis, and never older than what was acknowledged.

A reader that finds nothing takes a *lease* before MySQL is asked, and may store its answer only while the lease is
there. A writer sets a *fence* before its commit and takes it away after it, before the change is acknowledged; both
remove answers and lease. So an answer that is there was read after the last acknowledged change. What was thought of:

- A writer dies: its fence ends after `scripts.FENCE_SECONDS`; until then that user's readers ask MySQL.
- Redis is down: a fence that cannot be set refuses the write (503). One that cannot be taken away stays, and the write
  is not acknowledged.
- Redis lost its last second in a crash (`appendfsync everysec`), so answers may be back and fences gone: see
  `Admission`.
- Memory is short: answers and leases may be evicted at any time, fences have no time-out and are not.
- A version of the service that knows no cache works beside this one: see `scripts.SESSION`. What its API tokens do is
  not noticed so, therefore nobody who has a token is cached. A later release may drop both.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from redis import Redis
from redis.exceptions import NoScriptError

from memo import scripts
from memo.breaker import GuardedRedis

LIFETIME_SECONDS = 600
MOST_BYTES = 128 * 1024
"""A larger answer is not kept: Redis has 64 MB for everybody, sessions included."""

_BEGIN = scripts.CACHE + "begin(ARGV[1], ARGV[2], tonumber(ARGV[3])) return 1"
_FINISH = scripts.CACHE + "finish(ARGV[1], ARGV[2]) return 1"
_STORE = """
if redis.call('HGET', KEYS[1], 'lease') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
return 1
"""


class MemoCache:
    """The kept answers.

    Args:
        redis: the client.
    """

    def __init__(self, redis: GuardedRedis) -> None:
        self._redis = redis
        self._begin = redis.register_script(_BEGIN)
        self._finish = redis.register_script(_FINISH)
        self._store = redis.register_script(_STORE)

    @contextmanager
    def changing(self, user_id: str) -> Iterator[None]:
        """Around whatever changes what a user is shown, its commit included.

        Raises:
            redis.exceptions.RedisError: before it, nothing was changed; after it, the change must not be acknowledged.
        """
        fence = new_fence()
        self._begin(keys=[], args=[user_id, fence, scripts.FENCE_SECONDS])
        try:
            yield
        finally:
            self.changed(user_id, fence)

    def changed(self, user_id: str, fence: str) -> None:
        """The change behind a fence is committed, or will never be."""
        try:
            self._redis.ask("EVALSHA", self._finish.sha, 0, user_id, fence)
        except NoScriptError:
            self._finish(keys=[], args=[user_id, fence])

    def store(self, user_id: str, lease: bytes, field: str, value: bytes) -> bool:
        """Keep an answer.

        Args:
            user_id: whose.
            lease: taken before it was made.
            field: which of the user's answers.
            value: as `Admission` hands it out.

        Returns:
            False when somebody changed something since.
        """
        if len(value) > MOST_BYTES:
            return False
        return bool(self._store(keys=[scripts.CACHES + user_id], args=[lease, field, value]))

    def forget_all(self) -> None:
        """Use nothing that is kept, and keep nothing for a while: rows were changed behind the service's back."""
        new_epoch(self._redis)


def new_fence() -> str:
    """A name for one change."""
    return secrets.token_hex(8)


def new_epoch(redis: Redis) -> None:
    """Make all answers worthless; those who are writing now get time to finish, unless there was nothing yet."""
    seconds, _ = redis.time()
    until = seconds + scripts.FENCE_SECONDS if redis.exists(scripts.CACHE_EPOCH) else 0
    redis.set(scripts.CACHE_EPOCH, f"{secrets.token_hex(8)}:{until}")
