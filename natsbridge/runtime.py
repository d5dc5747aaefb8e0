"""Share a connection, threads, counters and the order to stop among a subscriber's parts."""

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

# Raised by Django when Postgres is away, as opposed to when it rejects a statement.
DATABASE_AWAY = (OperationalError, InterfaceError)
# Errors that pass by themselves: a server is away, or refuses something for now.
PASSING = (*DATABASE_AWAY, BridgeError, NatsError, OSError)

# How long a thread may take to close its connections. A thread that hangs is left behind.
CLOSE_SECONDS = 2.0

# A task that needs a server which is away tries again this often.
RETRY_SECONDS = 2.0
# One round of a repeated task. It may return the seconds until the next round.
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
        """Close the connections, in CLOSE_SECONDS at most: a silent server can block a thread."""
        try:
            await asyncio.wait_for(self.run(connections.close_all), CLOSE_SECONDS)
        except TimeoutError:
            log.warning("thread hangs", thread=self._name)
        finally:
            self._executor.shutdown(wait=False, cancel_futures=True)


def _keeping_connection(function: Callable[..., R], *args: Any, **kwargs: Any) -> R:
    """Call the function, and after a database error close connections that are not usable."""
    try:
        return function(*args, **kwargs)
    except AnyDatabaseError:
        for connection in connections.all(initialized_only=True):
            if not connection.in_atomic_block and not connection.is_usable():
                connection.close()
        raise


class Runtime:
    """What every consumer and task of a subscriber shares."""

    def __init__(
        self, connection: Connection, wakeups: Wakeups, instance: str, counters: Counter[str]
    ) -> None:
        self.connection = connection
        self.wakeups = wakeups
        self.instance = instance
        self.stopping = asyncio.Event()
        # Set while reports are read and commands are delivered: unless the service is paused, and
        # not before the database has said so.
        self.in_service = asyncio.Event()
        # Set after `stopping`, when the parts that take something in have finished.
        self.drained = asyncio.Event()
        self.counters = counters
        # Functions that return figures for the status row, by name.
        self.gauges: dict[str, Callable[[], Any]] = {}
        # Messages that flooders have left at the broker wait behind those of all others.
        self.slow_lane = SlowLane()

    async def pause(self, seconds: float, *, wake: asyncio.Event | None = None) -> None:
        """Return after `seconds`, when `wake` is set, which clears it, or when stopping."""
        await _first_of(self.stopping, *([] if wake is None else [wake]), timeout=seconds)
        if wake is not None:
            wake.clear()

    async def wait_for_service(self, seconds: float) -> None:
        """Return when the service is not paused, after `seconds`, or when stopping."""
        await _first_of(self.stopping, self.in_service, timeout=seconds)


class Part:
    """What a side task gets: the runtime, a thread for its synchronous half, and its connection."""

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
    """Run rounds until stopping: one at once, the next after `every` seconds.

    A round may return another number of seconds, and a notification on the channel `wakes_on`
    starts the next one sooner, though not within `least` seconds. A round that fails with one of
    PASSING is logged, counted, and tried again soon.
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
    """Run a task until the event is set; if it fails, log and count that, and start it again."""
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
