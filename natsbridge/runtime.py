"""What the parts of one running subscriber share."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

import structlog
from asgiref.sync import sync_to_async
from django.db import Error as DatabaseError
from django.db import InterfaceError, OperationalError, connections

from natsbridge.connection import Connection
from natsbridge.wakeups import Wakeups

log = structlog.get_logger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

# Raised by Django when Postgres is away, as opposed to unhappy with what it was told.
DATABASE_AWAY = (OperationalError, InterfaceError)


class Worker:
    """One thread with a database connection of its own, for the synchronous half of one task."""

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        call = sync_to_async(_keeping_connection, thread_sensitive=False, executor=self._executor)
        result: R = await call(function, *args, **kwargs)
        return result

    async def close(self) -> None:
        await self.run(connections.close_all)
        self._executor.shutdown(wait=False)


def _keeping_connection(function: Callable[..., R], *args: Any, **kwargs: Any) -> R:
    """The connection stays open between calls; after an error it must prove itself usable."""
    try:
        return function(*args, **kwargs)
    except DatabaseError:
        for connection in connections.all(initialized_only=True):
            if not connection.in_atomic_block and not connection.is_usable():
                connection.close()
        raise


class Runtime:
    """Handed to every consumer and side task of a subscriber."""

    def __init__(self, connection: Connection, wakeups: Wakeups, instance: str) -> None:
        self.connection = connection
        self.wakeups = wakeups
        self.instance = instance
        self.stopping = asyncio.Event()
        self.counters: Counter[str] = Counter()
        # Sources of figures for the status row, by name.
        self.gauges: dict[str, Callable[[], Any]] = {}

    async def pause(self, seconds: float, *, wake: asyncio.Event | None = None) -> None:
        """Returns after `seconds`, when `wake` is set (it is cleared), or when stopping."""
        events = [self.stopping] if wake is None else [self.stopping, wake]
        waiters = [asyncio.ensure_future(event.wait()) for event in events]
        try:
            await asyncio.wait(waiters, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiter in waiters:
                waiter.cancel()
        if wake is not None:
            wake.clear()

    async def supervise(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Runs a task until stopping; one that dies is logged, counted and started again."""
        delay = 1.0
        while not self.stopping.is_set():
            started = time.monotonic()
            try:
                await run()
            except Exception:
                self.counters[f"task_failures.{name}"] += 1
                log.exception("task failed, starting it again", task=name, in_seconds=delay)
                delay = 1.0 if time.monotonic() - started > 60 else min(delay * 2, 30.0)
                await self.pause(delay)
