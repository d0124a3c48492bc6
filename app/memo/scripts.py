"""What several Lua scripts share: who is logged in, and the state of a user's cache. Redis' own clock in all of them.

A script is one round trip, and nothing happens between its steps.
"""

from __future__ import annotations

SESSIONS = "memo:session:"
SESSION_LISTS = "memo:sessions-of:"
CACHES = "memo:cache:"
WRITING = "memo:writing:"
CACHE_EPOCH = "memo:cache-epoch"
LEASES = "memo:leases"
"""How many were taken: the next one's name."""

FENCE_SECONDS = 60
"""A writer that died is waited for so long: longer than a request may take (`memo_app_harakiri_seconds`, 30 s)."""

OTHER_VERSION_SECONDS = 120
"""So long after a sign of a version that knows no cache nothing of that user is cached."""

# `begin` and `finish` are what a writer does before and after its commit. A fence has no time-out of Redis', which
# would let it be evicted when memory is short: readers drop the ones that are over.
CACHE = f"""
local time = redis.call('TIME')
local now = tonumber(time[1])
local function begin(user, id, seconds)
  redis.call('ZADD', '{WRITING}' .. user, now + seconds, id)
  redis.call('DEL', '{CACHES}' .. user)
end
local function finish(user, id)
  redis.call('ZREM', '{WRITING}' .. user, id)
  redis.call('DEL', '{CACHES}' .. user)
end
local function fenced(user)
  local fences = '{WRITING}' .. user
  if redis.call('EXISTS', fences) == 0 then return false end
  redis.call('ZREMRANGEBYSCORE', fences, '-inf', now)
  return redis.call('EXISTS', fences) == 1
end
"""

# A user's sessions are listed, so that they can be shown and ended. The list ends a millisecond before the session that
# lasts longest. The version that knows no cache sets another end (EXPIRE, for the longest time a session may last) with
# each request, at the latest when it has written and before it answers: that is how its work is noticed.
SESSION = (
    CACHE
    + f"""
local function last_end(list)
  local last = redis.call('ZRANGE', list, -1, -1, 'WITHSCORES')
  return last[2] and tonumber(last[2])
end
local function ours(list)
  local last = last_end(list)
  return last and redis.call('PEXPIRETIME', list) == last * 1000 - 1
end
local function mark(list)
  local last = last_end(list)
  if last then redis.call('PEXPIREAT', list, last * 1000 - 1) end
end
local function other_version_worked(user)
  begin(user, 'another version', {OTHER_VERSION_SECONDS})
end
local function touch(key, idle)
  local found = redis.call('HMGET', key, 'user', 'end', 'seen')
  if not found[1] or not found[2] then return false end
  local left = tonumber(found[2]) - now
  if left <= 0 then redis.call('DEL', key) return false end
  local list = '{SESSION_LISTS}' .. found[1]
  local known = ours(list)
  if not known then other_version_worked(found[1]) end
  if not known or tonumber(found[3]) ~= now then
    redis.call('EXPIRE', key, math.min(left, tonumber(idle)))
    redis.call('HSET', key, 'seen', now)
    redis.call('ZADD', list, found[2], key)
    mark(list)
  end
  return found[1]
end
"""
)
