"""Limit how often a caller may ask, counted in Redis for all web processes together.

Each caller has a bucket that is full at a minute's requests and fills up evenly. While Redis is
away nobody is limited: agents and people matter more than fairness among them, and guesses are
counted by themselves.
"""

from collections.abc import Mapping
from functools import cache
from math import ceil
from typing import Any, NamedTuple

import redis
from django.conf import settings

from natsbridge.redis import client
from tenants.access import shared_counts

PREFIX = "wegweiser:requests"
# KEYS: the buckets. ARGV: for each how many requests it takes a minute. A bucket is stored as the
# moment at which it will be full; one that is full has no key. Either all give, or none.
_SCRIPT = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local full, longest, lacking = {}, 0, 0
for number, bucket in ipairs(KEYS) do
  local stored = tonumber(redis.call('GET', bucket) or 0)
  full[number] = math.max(stored, now) + 60 / ARGV[number]
  local wait = full[number] - now - 60
  if wait > longest then longest, lacking = wait, number end
end
if lacking == 0 then
  for number, bucket in ipairs(KEYS) do
    redis.call('SET', bucket, string.format('%.6f', full[number]), 'EX', 61)
  end
end
return {lacking, tostring(longest)}
"""


class Excess(NamedTuple):
    """A caller who asks too often, and the seconds after which one more request is admitted."""

    caller: str
    wait: int


def excess(limits: Mapping[str, int]) -> Excess | None:
    """Count a request of these callers, who may make so many a minute each; 0 means any number.

    Return the one that has made too many; then nothing is counted.
    """
    limited = {caller: limit for caller, limit in limits.items() if limit}
    if not limited or not shared_counts.THROTTLE.admits():
        return None
    try:
        keys = [f"{PREFIX}:{caller}" for caller in limited]
        lacking, wait = _script(settings.REDIS_URL)(keys=keys, args=list(limited.values()))
    except redis.RedisError as error:
        shared_counts.THROTTLE.failed(str(error))
        return None
    shared_counts.THROTTLE.succeeded()
    return Excess(list(limited)[lacking - 1], ceil(float(wait))) if lacking else None


@cache
def _script(url: str) -> Any:
    return client(url).register_script(_SCRIPT)
