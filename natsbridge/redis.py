"""The connections to Redis, made on first use. Synchronous: for threads, not for the loop."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import redis

from natsbridge.errors import DependencyAway


@cache
def client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2)


@contextmanager
def redis_needed() -> Iterator[None]:
    """Raise DependencyAway where Redis is away or takes no writes; the bridge keeps the batch."""
    try:
        yield
    except redis.RedisError as error:
        raise DependencyAway(f"Redis: {error}") from error
