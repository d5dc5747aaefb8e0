"""The connections to Redis, made on first use. Synchronous: for threads, not for the loop."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import redis
from django.conf import settings

from natsbridge.errors import DependencyAway
from natsbridge.subscriber.breaker import Breaker

# Around what the subscriber writes there.
METRICS_STORE = Breaker("redis")


@cache
def client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2)


def metrics_client() -> redis.Redis:
    return client(settings.METRICS_REDIS_URL)


@contextmanager
def redis_needed() -> Iterator[None]:
    """Says that Redis is away, or takes no writes, in the words of the bridge, which then keeps
    the batch."""
    try:
        yield
    except redis.RedisError as error:
        raise DependencyAway(f"Redis: {error}") from error
