"""How often a user, or an address where nobody is logged in, may ask.

The generic cell rate algorithm (ITU-T I.371), in Redis: one number for each bucket, by Redis' clock, so that all web
hosts count together. Reads and writes are counted apart.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from redis import Redis

from memo import scripts

_KEYS = "memo:rate:"
_IPV6_PREFIX = 64
"""What one customer usually has (RFC 6177)."""

# Microseconds: below 2^53, so exact in Lua's numbers, but not in its own way of writing them.
GCRA = """
local micros = now * 1000000 + tonumber(time[2])
local function limited(key, interval, tolerance)
  interval = tonumber(interval)
  if interval == 0 then return 0 end
  local due = math.max(tonumber(redis.call('GET', key) or '0'), micros) + interval
  local wait = due - micros - tonumber(tolerance)
  if wait > 0 then return math.ceil(wait / 1000) end
  redis.call('SET', key, string.format('%.0f', due), 'PX', math.ceil((due - micros) / 1000))
  return 0
end
"""
_TAKE = scripts.CACHE + GCRA + "return limited(KEYS[1], ARGV[1], ARGV[2])"


@dataclass(frozen=True, slots=True)
class Bucket:
    """A limit as the script wants it.

    Args:
        keys: what the keys of its buckets begin with.
        interval: microseconds for each request; 0 for no limit.
        tolerance: how far ahead of that a burst may be, in microseconds.
    """

    keys: str
    interval: int
    tolerance: int


def bucket(name: str, per_second: float, burst: int) -> Bucket:
    """A limit.

    Args:
        name: what is counted.
        per_second: requests in the long run; 0 for no limit.
        burst: requests at once.
    """
    interval = round(1_000_000 / per_second) if per_second else 0
    return Bucket(f"{_KEYS}{name}:", interval, interval * burst)


class Limiter:
    """Counts requests that do not come with a session.

    Args:
        redis: the client.
        reads: how often a user may read.
        writes: how often a user may write.
        addresses: how often one address may ask while nobody is logged in.
    """

    def __init__(self, redis: Redis, reads: Bucket, writes: Bucket, addresses: Bucket) -> None:
        self._take = redis.register_script(_TAKE)
        self._buckets = {"read": reads, "write": writes}
        self._addresses = addresses

    def user(self, user_id: str, kind: str) -> int:
        """Count a user's request; the milliseconds until it would be allowed, 0 when it is."""
        return self._ask(self._buckets[kind], user_id)

    def address(self, address: str | None) -> int:
        """Count the request of an address."""
        return self._ask(self._addresses, _network(address))

    def _ask(self, bucket: Bucket, who: str) -> int:
        return int(self._take(keys=[bucket.keys + who], args=[bucket.interval, bucket.tolerance]))


def _network(address: str | None) -> str:
    try:
        found = ipaddress.ip_address(address or "")
    except ValueError:
        return "unknown"
    if found.version == 4:
        return str(found)
    return str(ipaddress.ip_network((found, _IPV6_PREFIX), strict=False))
