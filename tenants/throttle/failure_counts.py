"""Count failed authentications in Redis, for all web processes together.

Two things are counted at once: failures in the present minute of an address prefix and of a
principal, for the throttle; and failures of a kind that are not in the audit yet. The first of a
kind is reported at once, then one row a minute has the count, until a minute without any.
"""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import redis
from django.conf import settings

from natsbridge.redis import client
from natsbridge.subscriber.breaker import Breaker

WINDOW_SECONDS = 60
# The most rows of one minute; the surplus is one row more.
ROWS_A_MINUTE = 1_000
PREFIX = "wegweiser:refused"
THROTTLE = Breaker("redis, for the throttle of wrong tokens")

# KEYS: when each kind is due to be told, counts, last addresses, rows told this minute, and then
# the counters of the throttle. ARGV: now, window, rows a minute, the kind of the surplus, the kind
# that failed (none: only what is due), its address.
_SCRIPT = """
local due, counts, places, told = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local now, window, most, surplus = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
local rows, failures = {}, {}

local function hold(kind, count, place)
  redis.call('HINCRBY', counts, kind, count)
  redis.call('HSET', places, kind, place)
  redis.call('ZADD', due, 'NX', now + window, kind)
end

local function tell(kind, count, place)
  local number = redis.call('INCR', told)
  redis.call('EXPIRE', told, 2 * window)
  if number >= most and kind ~= surplus then
    return hold(surplus, count, '')
  end
  rows[#rows + 1] = {kind, count, place}
  redis.call('ZADD', due, now + window, kind)
end

for _, kind in ipairs(redis.call('ZRANGEBYSCORE', due, '-inf', now)) do
  local count = redis.call('HGET', counts, kind)
  local place = redis.call('HGET', places, kind)
  redis.call('ZREM', due, kind)
  redis.call('HDEL', counts, kind)
  redis.call('HDEL', places, kind)
  if count then tell(kind, tonumber(count), place or '') end
end
if ARGV[5] ~= '' then
  if redis.call('ZSCORE', due, ARGV[5]) then
    hold(ARGV[5], 1, ARGV[6])
  else
    tell(ARGV[5], 1, ARGV[6])
  end
end
for number = 5, #KEYS do
  failures[#failures + 1] = redis.call('INCR', KEYS[number])
  if failures[#failures] == 1 then redis.call('EXPIRE', KEYS[number], window) end
  failures[#failures + 1] = redis.call('TTL', KEYS[number])
end
for number = 1, 3 do redis.call('EXPIRE', KEYS[number], 86400) end
return {rows, failures, redis.call('HLEN', counts)}
"""


class Report(NamedTuple):
    """The number of failures of a kind, and the address of the last."""

    kind: str
    failures: int
    address: str


class Counted(NamedTuple):
    """`rows` are due now, and more will be if `held`. `wait` is the seconds until the caller is
    below the limit again, 0 while it is below."""

    rows: list[Report]
    held: bool
    wait: int = 0


class Away(Exception):
    """Redis does not answer, so nothing was counted."""


def count(
    kind: str, address: str, throttled: Sequence[str], *, limit: int, surplus: str
) -> Counted:
    """Count a failure. Raises Away."""
    rows, failures, held = _run(kind, address, surplus, throttled)
    pairs = zip(failures[::2], failures[1::2], strict=True)
    wait = max((max(seconds, 1) for number, seconds in pairs if number > limit), default=0)
    return Counted(_reports(rows), bool(held), wait)


def due(*, surplus: str, now: float | None = None) -> Counted:
    """Take the reports that are due by now. Raises Away."""
    rows, _, held = _run("", "", surplus, (), now)
    return Counted(_reports(rows), bool(held))


def put_back(rows: Sequence[Report]) -> None:
    """Keep reports that could not be written for later, if Redis answers."""
    pipeline = client(settings.REDIS_URL).pipeline(transaction=False)
    for row in rows:
        pipeline.hincrby(f"{PREFIX}:counts", row.kind, row.failures)
        pipeline.hset(f"{PREFIX}:places", row.kind, row.address)
    if rows:
        pipeline.zadd(f"{PREFIX}:due", {row.kind: time.time() for row in rows})
        pipeline.execute()


def _run(
    kind: str, address: str, surplus: str, throttled: Sequence[str], now: float | None = None
) -> Any:
    if not THROTTLE.admits():
        raise Away
    at = time.time() if now is None else now
    minute = f"{PREFIX}:rows:{int(at // WINDOW_SECONDS)}"
    keys = [f"{PREFIX}:due", f"{PREFIX}:counts", f"{PREFIX}:places", minute]
    keys += [f"{PREFIX}:of:{each}" for each in throttled]
    script = client(settings.REDIS_URL).register_script(_SCRIPT)
    try:
        args: list[str | float] = [at, WINDOW_SECONDS, ROWS_A_MINUTE, surplus, kind, address]
        answer = script(keys=keys, args=args)
    except redis.RedisError as error:
        THROTTLE.failed(str(error))
        raise Away from error
    THROTTLE.succeeded()
    return answer


def _reports(rows: list[Any]) -> list[Report]:
    found = cast(list[tuple[bytes, int, bytes]], rows)
    return [Report(kind.decode(), count, address.decode()) for kind, count, address in found]
