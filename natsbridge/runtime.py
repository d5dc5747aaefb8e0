"""What the parts of one running subscriber share."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

import structlog
from asgiref.sync import sync_to_async
from django.db import Error as AnyDatabaseError
from django.db import InterfaceError, OperationalError, connections
from nats.errors import Error as NatsError

from natsbridge.client.connection import Connection
from natsbridge.errors import BridgeError
from natsbridge.postgres.wakeups import Wakeups
from natsbridge.rules.slow_lane import SlowLane

log = structlog.get_logger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

# Raised by Django when Postgres is away, as opposed to unhappy with what it was told.
DATABASE_AWAY = (OperationalError, InterfaceError)
# What passes by itself: a server that is away, or does not do now what it is asked.
PASSING = (*DATABASE_AWAY, BridgeError, NatsError, OSError)

# How long a thread may take to close its connections. One that hangs is left behind.
CLOSE_SECONDS = 2.0

# A task that needs a server which is away tries again this often.
RETRY_SECONDS = 2.0
# One round of what a task does again and again. It may return the seconds until the next.
Round = Callable[[], Awaitable[float | None]]


class Worker:
    """One thread with a database connection of its own, for the synchronous half of one task."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        call = sync_to_async(_keeping_connection, thread_sensitive=False, executor=self._executor)
        result: R = await call(function, *args, **kwargs)
        return result

    async def close(self) -> None:
        """Takes CLOSE_SECONDS at most: a server that has gone silent can keep a thread for ever."""
        try:
            await asyncio.wait_for(self.run(connections.close_all), CLOSE_SECONDS)
        except TimeoutError:
            log.warning("a thread hangs", thread=self._name)
        finally:
            self._executor.shutdown(wait=False, cancel_futures=True)


def _keeping_connection(function: Callable[..., R], *args: Any, **kwargs: Any) -> R:
    """The connection stays open between calls; after an error it must prove itself usable."""
    try:
        return function(*args, **kwargs)
    except AnyDatabaseError:
        for connection in connections.all(initialized_only=True):
            if not connection.in_atomic_block and not connection.is_usable():
                connection.close()
        raise


class Runtime:
    """Handed to every consumer and side task of a subscriber."""

    def __init__(
        self, connection: Connection, wakeups: Wakeups, instance: str, counters: Counter[str]
    ) -> None:
        self.connection = connection
        self.wakeups = wakeups
        self.instance = instance
        self.stopping = asyncio.Event()
        self.counters = counters
        # Sources of figures for the status row, by name.
        self.gauges: dict[str, Callable[[], Any]] = {}
        # What flooders have left at the broker waits behind what everybody else reports.
        self.slow_lane = SlowLane()

    async def pause(self, seconds: float, *, wake: asyncio.Event | None = None) -> None:
        """Returns after `seconds`, when `wake` is set (it is cleared), or when stopping."""
        await _first_of(self.stopping, *([] if wake is None else [wake]), timeout=seconds)
        if wake is not None:
            wake.clear()


class Part:
    """Handed to a side task: the runtime, a thread for its synchronous half, and its connection."""

    def __init__(self, name: str, runtime: Runtime, worker: Worker, connection: Connection) -> None:
        self.name = name
        self.runtime = runtime
        self.worker = worker
        self.connection = connection

    async def repeat(
        self, run: Round, *, every: float, wakes_on: str | None = None, least: float = 0.0
    ) -> None:
        """Run rounds until stopping; see `repeat`."""
        await repeat(self.name, self.runtime, run, every=every, wakes_on=wakes_on, least=least)


async def repeat(
    name: str,
    runtime: Runtime,
    run: Round,
    *,
    every: float,
    wakes_on: str | None = None,
    least: float = 0.0,
) -> None:
    """Run rounds until stopping: one at once, the next after `every` seconds or after as many as
    the last one returned, and sooner when the channel `wakes_on` is notified.

    At least `least` seconds lie between two rounds, and what comes meanwhile is taken together. A
    round that fails for one of PASSING is logged, counted, and tried again soon.
    """
    wake = None if wakes_on is None else runtime.wakeups.on(wakes_on)
    problem = ""
    while not runtime.stopping.is_set():
        seconds: float | None
        try:
            seconds, problem = await run(), ""
        except PASSING as error:
            seconds = min(every, RETRY_SECONDS)
            runtime.counters[f"task_failures.{name}"] += 1
            reason = str(error).strip() or type(error).__name__
            if reason != problem:
                problem = reason
                log.warning("task waits", task=name, reason=reason)
        await runtime.pause(every if seconds is None else seconds, wake=wake)
        if least:
            await runtime.pause(least)


async def supervise(
    name: str,
    run: Callable[[], Awaitable[None]],
    *,
    until: asyncio.Event,
    counters: Counter[str],
) -> None:
    """Runs a task until the event; one that dies is logged, counted and started again."""
    delay = 1.0
    while not until.is_set():
        started = time.monotonic()
        try:
            await run()
        except DATABASE_AWAY as error:
            counters[f"task_failures.{name}"] += 1
            log.warning("task waits for the database", task=name, error=str(error).strip())
            await _first_of(until, timeout=RETRY_SECONDS)
        except Exception:
            if time.monotonic() - started > 60:
                delay = 1.0
            counters[f"task_failures.{name}"] += 1
            log.exception("task failed, starting it again", task=name, in_seconds=delay)
            await _first_of(until, timeout=delay)
            delay = min(delay * 2, 30.0)


async def _first_of(*events: asyncio.Event, timeout: float) -> None:
    waiters = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiters, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for waiter in waiters:
            waiter.cancel()
