"""Count audit events in Redis, for all web processes together.

The first event of a kind is reported at once, then one row a minute has the count, until a minute
without any. Kinds beyond a group's share of the minute are counted as one kind for the whole group,
and groups beyond the share of all as one more. The same question to Redis counts what the throttle
of wrong tokens wants to know.
"""

import time
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import redis
from django.conf import settings

from natsbridge.redis import client
from natsbridge.subscriber.breaker import Breaker

WINDOW_SECONDS = 60
# The most rows of one minute: of one group, and of all groups that fold into the same kind.
ROWS_OF_EACH = 25
ROWS_A_MINUTE = 1_000
PREFIX = "wegweiser:refused"
THROTTLE = Breaker("redis, for the throttle of wrong tokens")

# KEYS: when each kind is due to be told, counts, what to tell, rows told this minute, and then the
# counters of the throttle. ARGV: now, window, rows of each group, rows of all, and the kind that
# happened (none: only what is due), its group, the kind for all groups, and what to tell of it.
# What to tell of a kind is kept with its group: three JSON texts in three lines.
_SCRIPT = """
local due, counts, telling, told = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local now, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local share, most = tonumber(ARGV[3]), tonumber(ARGV[4])
local rows, failures = {}, {}

local function hold(kind, count, tale)
  redis.call('HINCRBY', counts, kind, count)
  redis.call('HSET', telling, kind, tale)
  redis.call('ZADD', due, 'NX', now + window, kind)
end

local function is_full(name, limit)
  return tonumber(redis.call('HGET', told, name) or 0) >= limit
end

local function tell(kind, count, tale)
  local _, group, all = string.match(tale, '^(.-)\\n(.-)\\n(.*)$')
  if kind ~= all and is_full(all, most) then
    return hold(all, count, all .. '\\n' .. all .. '\\n' .. all)
  end
  if kind ~= all and kind ~= group and is_full(group, share) then
    return hold(group, count, group .. '\\n' .. group .. '\\n' .. all)
  end
  redis.call('HINCRBY', told, group, 1)
  if group ~= all then redis.call('HINCRBY', told, all, 1) end
  redis.call('EXPIRE', told, 2 * window)
  rows[#rows + 1] = {kind, count, tale}
  redis.call('ZADD', due, now + window, kind)
end

for _, kind in ipairs(redis.call('ZRANGEBYSCORE', due, '-inf', now)) do
  local count = redis.call('HGET', counts, kind)
  local tale = redis.call('HGET', telling, kind)
  redis.call('ZREM', due, kind)
  redis.call('HDEL', counts, kind)
  redis.call('HDEL', telling, kind)
  if count then tell(kind, tonumber(count), tale) end
end
if ARGV[5] ~= '' then
  local tale = ARGV[8] .. '\\n' .. ARGV[6] .. '\\n' .. ARGV[7]
  if redis.call('ZSCORE', due, ARGV[5]) then
    hold(ARGV[5], 1, tale)
  else
    tell(ARGV[5], 1, tale)
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


class Event(NamedTuple):
    """An event as texts of one line: its kind, the two kinds that it may be folded into, and what
    to tell of it, which is the newest event's of the kind."""

    kind: str
    group: str
    all: str
    telling: str


NOTHING = Event("", "", "", "")


class Report(NamedTuple):
    """The number of events of a kind, and the newest of them; `tale` is for `put_back`."""

    kind: str
    number: int
    tale: str

    @property
    def telling(self) -> str:
        return self.tale.partition("\n")[0]


class Counted(NamedTuple):
    """`rows` are due now, and more will be if `held`. `wait` is the seconds until the caller is
    below the limit again, 0 while it is below."""

    rows: list[Report]
    held: bool
    wait: int = 0


class Away(Exception):
    """Redis does not answer, so nothing was counted."""


def count(event: Event, throttled: Sequence[str] = (), *, limit: int = 0) -> Counted:
    """Count an event, and one more for each that is `throttled`. Raises Away."""
    rows, failures, held = _run(event, throttled)
    pairs = zip(failures[::2], failures[1::2], strict=True)
    wait = max((max(seconds, 1) for number, seconds in pairs if number > limit), default=0)
    return Counted(_reports(rows), bool(held), wait)


def due(now: float | None = None) -> Counted:
    """Take the reports that are due by now. Raises Away."""
    rows, _, held = _run(NOTHING, (), now)
    return Counted(_reports(rows), bool(held))


def put_back(rows: Sequence[Report]) -> None:
    """Keep reports that could not be written for later, if Redis answers."""
    pipeline = client(settings.REDIS_URL).pipeline(transaction=False)
    for row in rows:
        pipeline.hincrby(f"{PREFIX}:counts", row.kind, row.number)
        pipeline.hset(f"{PREFIX}:telling", row.kind, row.tale)
    if rows:
        pipeline.zadd(f"{PREFIX}:due", {row.kind: time.time() for row in rows})
        pipeline.execute()


def _run(event: Event, throttled: Sequence[str], now: float | None = None) -> Any:
    if not THROTTLE.admits():
        raise Away
    at = time.time() if now is None else now
    minute = f"{PREFIX}:rows:{int(at // WINDOW_SECONDS)}"
    keys = [f"{PREFIX}:due", f"{PREFIX}:counts", f"{PREFIX}:telling", minute]
    keys += [f"{PREFIX}:of:{each}" for each in throttled]
    script = client(settings.REDIS_URL).register_script(_SCRIPT)
    try:
        args: list[str | float] = [at, WINDOW_SECONDS, ROWS_OF_EACH, ROWS_A_MINUTE, *event]
        answer = script(keys=keys, args=args)
    except redis.RedisError as error:
        THROTTLE.failed(str(error))
        raise Away from error
    THROTTLE.succeeded()
    return answer


def _reports(rows: list[Any]) -> list[Report]:
    found = cast(list[tuple[bytes, int, bytes]], rows)
    return [Report(kind.decode(), count, tale.decode()) for kind, count, tale in found]
