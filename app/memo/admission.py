"""One round trip to Redis for what a hot request needs: whose session it is, the rate limit, and the cached answer."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

from redis.exceptions import NoScriptError

from memo import scripts
from memo.breaker import GuardedRedis
from memo.cache import LIFETIME_SECONDS, new_epoch
from memo.limits import GCRA, Bucket

HEAD = 54

# Answers: {0} nobody's session; {1, user} go on, {2, user, lease} go on and keep the answer, {3, user, answer},
# {4, user, answer's head} the client has it already, {5, user, milliseconds} too many requests.
# An answer is: the second at which it is over (10 digits), its ETag (40) or blanks, the length of the rest of its head
# (4 digits), that, and the body.
_ADMIT = (
    scripts.SESSION
    + GCRA
    + f"""
local user = touch(KEYS[1], ARGV[1])
if not user then return {{0}} end
local wait = limited(ARGV[2] .. user, ARGV[3], ARGV[4])
if wait > 0 then return {{5, user, wait}} end
if ARGV[5] == '' then return {{1, user}} end
if ARGV[6] == 'write' then
  begin(user, ARGV[5], {scripts.FENCE_SECONDS})
  return {{1, user}}
end
if fenced(user) then return {{1, user}} end
local cache = '{scripts.CACHES}' .. user
local epoch = redis.call('GET', '{scripts.CACHE_EPOCH}')
if not epoch then return {{1, user}} end
local kept = redis.call('HMGET', cache, 'epoch', 'lease', ARGV[5])
if kept[1] == epoch then
  if kept[3] and tonumber(string.sub(kept[3], 1, 10)) > now then
    if ARGV[7] == '' or string.sub(kept[3], 11, 50) ~= ARGV[7] then return {{3, user, kept[3]}} end
    return {{4, user, string.sub(kept[3], 1, {HEAD} + tonumber(string.sub(kept[3], {HEAD - 3}, {HEAD})))}}
  end
  return {{2, user, kept[2]}}
end
redis.call('DEL', cache)
if now < tonumber(string.match(epoch, '%d+$')) then return {{1, user}} end
local lease = tostring(redis.call('INCR', '{scripts.LEASES}'))
redis.call('HSET', cache, 'epoch', epoch, 'lease', lease)
redis.call('EXPIRE', cache, {LIFETIME_SECONDS})
return {{2, user, lease}}
"""
)


class Admitted(NamedTuple):
    """Who asks, and what is known already.

    Args:
        user_id: None without a live session.
        wait_ms: so long until the next request is allowed; 0 when this one is.
        lease: to keep the answer under, when there is none.
        answer: what was kept, or its head alone when `same`.
        same: the client has it already.
    """

    user_id: str | None = None
    wait_ms: int = 0
    lease: bytes = b""
    answer: bytes = b""
    same: bool = False


NOBODY = Admitted()


class Admission:
    """Lets requests with a session in.

    Args:
        redis: the client.
        idle_seconds: a session ends after so long without a request.
        reads: how often a user may read.
        writes: how often a user may write.
    """

    def __init__(self, redis: GuardedRedis, idle_seconds: int, reads: Bucket, writes: Bucket) -> None:
        self._redis = redis
        self._idle = idle_seconds
        self._buckets = {"read": reads, "write": writes}
        self._sha = hashlib.sha1(_ADMIT.encode(), usedforsecurity=False).hexdigest()

    def enter(self, session: str, kind: str) -> Admitted:
        """Check a session and the limit.

        Args:
            session: the session's key in Redis.
            kind: `read` or `write`.
        """
        return self._admit(session, kind, "", "")

    def read(self, session: str, field: str, etag: str) -> Admitted:
        """The same for a read whose answer may be kept.

        Args:
            session: the session's key in Redis.
            field: which answer.
            etag: what the client has, 40 characters or nothing.
        """
        return self._admit(session, "read", field, etag)

    def write(self, session: str, fence: str) -> Admitted:
        """The same for a write, with the fence set (see `memo.cache`) if it is let in."""
        return self._admit(session, "write", fence, "")

    def _admit(self, session: str, kind: str, subject: str, etag: str) -> Admitted:
        bucket = self._buckets[kind]
        found = self._evaluate(session, self._idle, bucket.keys, bucket.interval, bucket.tolerance, subject, kind, etag)
        if found[0] == 0:
            return NOBODY
        state, user_id = found[0], found[1].decode()
        if state == 3:
            return Admitted(user_id, answer=found[2])
        if state == 4:
            return Admitted(user_id, answer=found[2], same=True)
        if state == 2:
            return Admitted(user_id, lease=found[2])
        return Admitted(user_id, wait_ms=found[2]) if state == 5 else Admitted(user_id)

    def _evaluate(self, *arguments: str | int) -> Any:  # noqa: ANN401 - what the script answers
        try:
            return self._redis.ask("EVALSHA", self._sha, 1, *arguments)
        except NoScriptError:
            # Redis (re)started: scripts are not persisted. It may have lost its last second, with fences in it, and
            # answers that were removed may be back. Nothing kept is handed out without this script, so whoever brings
            # it makes them worthless first.
            new_epoch(self._redis)
            self._redis.script_load(_ADMIT)
            return self._redis.ask("EVALSHA", self._sha, 1, *arguments)
