"""Keep track of the open live pages, in all web processes together.

Each open page has entries in Redis sorted sets, scored with the time at which they expire, and
renews them while it is open: for the device or the fleets that it shows, and among the pages of its
person. If its process dies, they expire.
"""

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import cast
from uuid import UUID

import redis
import structlog
from django.conf import settings

from natsbridge.redis import client

log = structlog.get_logger(__name__)

# A page renews its places more often than this.
WATCH_SECONDS = 30
_DEVICES = "wegweiser:watched"
_FLEETS = "wegweiser:watched-fleets"


class Pause:
    """After Redis failed, nothing asks it for a while: each batch would wait for it anew."""

    seconds = 5.0

    def __init__(self) -> None:
        self.until = 0.0

    @property
    def is_on(self) -> bool:
        return time.monotonic() < self.until

    @contextmanager
    def after_failure(self) -> Iterator[None]:
        try:
            yield
        except (redis.RedisError, OSError) as error:
            self.until = time.monotonic() + self.seconds
            log.warning("live pages wait for Redis", error=str(error))


pause = Pause()


def store() -> redis.Redis:
    return client(settings.REDIS_URL)


def watch_device(device: UUID) -> None:
    """Mark the device as shown by an open page for the next WATCH_SECONDS."""
    _renew(_DEVICES, [device])


def watch_fleets(tenants: Collection[UUID]) -> None:
    """Mark the tenants' fleets as shown by an open page for the next WATCH_SECONDS."""
    _renew(_FLEETS, tenants)


def watched_devices() -> set[UUID]:
    """Return the devices that some page shows now; none while Redis is away."""
    return _members(_DEVICES)


def watched_fleets() -> set[UUID]:
    """Return the tenants whose fleet some page shows now; none while Redis is away."""
    return _members(_FLEETS)


def add_page(person: int, page: str) -> bool:
    """Return False, and add nothing, where the person has LIVE_PAGES_PER_PERSON pages open."""
    _, _, _, pages = _renew_page(person, page).execute()
    if pages <= settings.LIVE_PAGES_PER_PERSON:
        return True
    remove_page(person, page)
    return False


def renew_page(person: int, page: str) -> None:
    """Keep the page's place for the next WATCH_SECONDS."""
    _renew_page(person, page).execute()


def remove_page(person: int | None, page: str) -> None:
    if person is not None:
        store().zrem(_pages_of(person), page)


def _renew(key: str, members: Collection[UUID]) -> None:
    now = time.time()
    pipeline = store().pipeline(transaction=False)
    if members:
        pipeline.zadd(key, {str(member): now + WATCH_SECONDS for member in members})
    pipeline.zremrangebyscore(key, "-inf", now)
    pipeline.execute()


def _members(key: str) -> set[UUID]:
    members: list[bytes] = []
    if not pause.is_on:
        with pause.after_failure():
            members = cast(list[bytes], store().zrangebyscore(key, time.time(), "+inf"))
    return {UUID(str(member, "ascii")) for member in members}


def _renew_page(person: int, page: str) -> redis.client.Pipeline:
    now, key = time.time(), _pages_of(person)
    pipeline = store().pipeline()
    pipeline.zremrangebyscore(key, "-inf", now)
    pipeline.zadd(key, {page: now + WATCH_SECONDS})
    pipeline.expire(key, WATCH_SECONDS)
    pipeline.zcard(key)
    return pipeline


def _pages_of(person: int) -> str:
    return f"wegweiser:open-pages:{person}"
