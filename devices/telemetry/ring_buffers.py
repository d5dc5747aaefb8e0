"""The ring buffers of live metrics. Only this module knows how they are stored.

Each device has one Redis list for each metric, `{METRICS_REDIS_PREFIX}:{device}:{metric}`, newest
first, with entries `{"timestamp": epoch milliseconds, "value": number}`. Two subscribers may write
the points of one device, so readers sort.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any
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


def metrics_client() -> redis.Redis:
    return client(settings.METRICS_REDIS_URL)


def append(series: Series) -> None:
    """Add the points in one round trip. Raise DependencyAway while Redis is away."""
    if not METRICS_STORE.admits():
        raise DependencyAway("Redis is away")
    limit = settings.METRICS_MAX_POINTS
    pipeline = metrics_client().pipeline(transaction=False)
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
        raise
    METRICS_STORE.succeeded()


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


def _sorted(entries: Iterable[bytes]) -> list[Point]:
    return sorted(map(_decode, entries), key=lambda point: point.timestamp)


def _key(device: UUID | str, metric: str) -> str:
    return f"{settings.METRICS_REDIS_PREFIX}:{device}:{metric}"
