"""The ring buffers of live metrics. Only this module knows how they are stored.

Each device has one Redis list for each metric, `{METRICS_REDIS_PREFIX}:{device}:{metric}`, newest
first, with entries `{"timestamp": epoch milliseconds, "value": number}`. Two subscribers may write
the points of one device, so readers sort. The set `{METRICS_REDIS_PREFIX}:{device}::names` has the
names of its metrics.
"""

import math
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, cast
from uuid import UUID

import msgspec
import redis
from django.conf import settings

from natsbridge.errors import DependencyAway
from natsbridge.redis import client, redis_needed
from natsbridge.subscriber.breaker import Breaker


class Point(msgspec.Struct, frozen=True):
    timestamp: int
    value: float


# The six that every agent streams; an agent may stream others besides.
LIVE_METRICS = (
    "cpu_percent",
    "memory_percent",
    "disk_percent",
    "network_bytes_in",
    "network_bytes_out",
    "uptime",
)

# Guards what the subscriber writes.
METRICS_STORE = Breaker("redis")

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Point).decode

Series = Mapping[tuple[UUID, str], Sequence[Point]]

# No metric has such a name.
_NAMES = ":names"
# When the name of each series was last written by this process.
_named_at: dict[tuple[UUID, str], float] = {}
_MOST_NAMED = 1_000_000


def metrics_client() -> redis.Redis:
    return client(settings.METRICS_REDIS_URL)


def append(series: Series) -> None:
    """Add the points in one round trip. Raise DependencyAway while Redis is away."""
    if not METRICS_STORE.admits():
        raise DependencyAway("Redis is away")
    limit = settings.METRICS_MAX_POINTS
    pipeline = metrics_client().pipeline(transaction=False)
    unnamed = _unnamed(series)
    for device, metric in unnamed:
        pipeline.sadd(_key(device, _NAMES), metric)
        pipeline.expire(_key(device, _NAMES), 2 * settings.METRICS_TTL_SECONDS)
    for (device, metric), points in series.items():
        key = _key(device, metric)
        pipeline.lpush(key, *[_encode(point) for point in points[-limit:]])
        pipeline.ltrim(key, 0, limit - 1)
        pipeline.expire(key, settings.METRICS_TTL_SECONDS)
    try:
        with redis_needed():
            pipeline.execute()
    except DependencyAway as error:
        METRICS_STORE.failed(str(error))
        # It may come back empty.
        _named_at.clear()
        raise
    METRICS_STORE.succeeded()
    _named_at.update(dict.fromkeys(unnamed, time.monotonic()))


def names(device: UUID) -> list[str]:
    """Return the names of the metrics that the device has sent lately, in alphabetical order. Raise
    DependencyAway while Redis is away."""
    with redis_needed():
        found = cast(set[bytes], metrics_client().smembers(_key(device, _NAMES)))
    return sorted(name.decode() for name in found)


def recent(
    device: UUID, metrics: Iterable[str] = LIVE_METRICS, limit: int | None = None
) -> dict[str, list[dict[str, Any]]]:
    """Return the last `limit` points of each metric that has any, oldest first. Raise
    DependencyAway while Redis is away."""
    names = list(metrics)
    pipeline = metrics_client().pipeline(transaction=False)
    for metric in names:
        pipeline.lrange(_key(device, metric), 0, (limit or settings.METRICS_MAX_POINTS) - 1)
    with redis_needed():
        entries = pipeline.execute()
    return {
        metric: [msgspec.to_builtins(point) for point in _sorted(raw)]
        for metric, raw in zip(names, entries, strict=True)
        if raw
    }


def forget(devices: Collection[UUID]) -> None:
    """Remove all points of these devices, in one pass over the store. Raise DependencyAway while
    Redis is away."""
    store = metrics_client()
    wanted = {str(device) for device in devices}
    pattern = _key("*" if len(wanted) > 1 else next(iter(wanted), "-"), "*")
    with redis_needed():
        for key in store.scan_iter(match=pattern, count=1000):
            if (
                str(key, "utf-8", "replace").removeprefix(f"{settings.METRICS_REDIS_PREFIX}:")[:36]
                in wanted
            ):
                store.unlink(key)


def _unnamed(series: Series) -> list[tuple[UUID, str]]:
    """Return the series whose names are to be written again, so that they outlive their points."""
    if len(_named_at) > _MOST_NAMED:
        _named_at.clear()
    since = time.monotonic() - settings.METRICS_TTL_SECONDS / 3
    return [each for each in series if _named_at.get(each, -math.inf) < since]


def _sorted(entries: Iterable[bytes]) -> list[Point]:
    return sorted(map(_decode, entries), key=lambda point: point.timestamp)


def _key(device: UUID | str, metric: str) -> str:
    return f"{settings.METRICS_REDIS_PREFIX}:{device}:{metric}"
