"""Run a subscriber: its connection, consumers and tasks, supervised, and drained at the end."""

import asyncio
import os
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from typing import Any

import structlog
from django.db import Error as AnyDatabaseError

from natsbridge.client.connection import Connection
from natsbridge.client.login import open_unless
from natsbridge.postgres.wakeups import Wakeups
from natsbridge.registry import LiveSubscription, Registry, StreamSubscription
from natsbridge.runtime import CLOSE_SECONDS, DATABASE_AWAY, Runtime, Worker, supervise
from natsbridge.subscriber import breaker, pause, status
from natsbridge.subscriber.intake import DEVICE_STREAMS, DurableIntake
from natsbridge.subscriber.live_intake import LiveIntake
from natsbridge.subscriber.periodic import run_periodic, run_side_task

log = structlog.get_logger(__name__)

DRAIN_SECONDS = 10.0
SIGN_OFF_SECONDS = 2.0


def part_names(registry: Registry) -> list[str]:
    """Return the names of all parts that a subscriber can have."""
    tasks = {*registry.periodics, *registry.side_tasks}
    return sorted({*DEVICE_STREAMS, *registry.streams, *registry.live, *tasks})


def with_companions(registry: Registry, parts: Collection[str]) -> set[str]:
    """Return the parts with those that have to run in the same process."""
    return {*parts, *chain.from_iterable(registry.companions.get(part, ()) for part in parts)}


class Subscriber:
    """A subscriber with all parts, or with those in `only` and their companions.

    `connect` opens the connection to the platform's account, waiting until there is a server.
    """

    def __init__(
        self,
        registry: Registry,
        connect: Callable[[], AbstractAsyncContextManager[Connection]],
        *,
        only: Collection[str] = (),
    ) -> None:
        self._registry = registry
        self._only = only
        self._connect = connect
        self._started_at = datetime.now(UTC)
        self._instance = f"{socket.gethostname()}:{os.getpid()}"
        self._counters: Counter[str] = Counter()
        self._wakeups = Wakeups({*registry.channels, pause.PAUSE_CHANNEL})
        self._runtime: Runtime | None = None
        self._intakes: dict[str, DurableIntake] = {}
        self._live: dict[str, LiveIntake] = {}
        # Set when the status is to be written at once.
        self._changed = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set, then finish and acknowledge what has been received.

        Raise the error that ended the keeping of the connection, always a programming error.
        """
        # These outlive the parts, to report that those are being drained; cancelling ends them.
        helpers = self._supervised(
            {"wakeups": self._wakeups.listen, "status": self._write_status}, until=asyncio.Event()
        )
        try:
            async with open_unless(stop, self._connect()) as connection:
                if connection:
                    self._runtime = Runtime(
                        connection, self._wakeups, self._instance, self._counters
                    )
                    await self._serve(self._runtime, stop)
        finally:
            await _cancel(helpers)

    def _supervised(
        self, parts: Mapping[str, Callable[[], Awaitable[None]]], *, until: asyncio.Event
    ) -> list[asyncio.Task[None]]:
        return [
            asyncio.create_task(
                supervise(name, run, until=until, counters=self._counters), name=name
            )
            for name, run in parts.items()
        ]

    async def _serve(self, runtime: Runtime, stop: asyncio.Event) -> None:
        # Each start makes a new object: what made the last one fail is not carried over.
        parts: dict[str, Callable[[], Awaitable[None]]] = {
            name: partial(self._read, runtime, name) for name in DEVICE_STREAMS
        }
        for name, stream in self._registry.streams.items():
            parts[name] = partial(_read_stream, runtime, stream)
        for name, subscription in self._registry.live.items():
            parts[name] = partial(self._take_in, runtime, subscription)
        for name, job in self._registry.periodics.items():
            parts[name] = partial(run_periodic, runtime, job)
        for name, side_task in self._registry.side_tasks.items():
            parts[name] = partial(run_side_task, runtime, side_task)
        if self._only:
            wanted = with_companions(self._registry, self._only)
            parts = {name: run for name, run in parts.items() if name in wanted}
        following = {"pause": partial(pause.follow, runtime)}
        tasks = self._supervised(parts | following, until=runtime.stopping)
        log.info("subscriber running", instance=self._instance, parts=sorted(parts))
        watching = asyncio.create_task(runtime.connection.watch(), name="watch the connection")
        stopped = asyncio.ensure_future(stop.wait())
        await asyncio.wait([watching, stopped], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        log.info("subscriber draining")
        runtime.stopping.set()
        late = await self._drain(runtime, tasks)
        for task in late:
            log.warning("task did not finish in time", task=task.get_name())
        await _cancel(late)
        log.info("subscriber stopped")
        if watching.done():
            watching.result()
        watching.cancel()

    async def _drain(
        self, runtime: Runtime, tasks: Collection[asyncio.Task[None]]
    ) -> set[asyncio.Task[None]]:
        """Wait until all have finished, those with a last time to do after the others; return those
        that are late."""
        jobs = self._registry.periodics
        last = {task for task in tasks if (job := jobs.get(task.get_name())) and job.last}
        late = await _pending({*tasks} - last, DRAIN_SECONDS)
        runtime.drained.set()
        # The last ones write what is in memory only, so they have their time also when others are
        # late.
        seconds = max((jobs[task.get_name()].last for task in last), default=0.0)
        return late | await _pending(last, seconds + CLOSE_SECONDS)

    async def _read(self, runtime: Runtime, name: str) -> None:
        intake = self._intakes[name] = DurableIntake.of_devices(
            runtime, name, self._registry, on_change=self._changed.set
        )
        await intake.run()

    async def _take_in(self, runtime: Runtime, subscription: LiveSubscription) -> None:
        async with open_unless(runtime.stopping, self._connect()) as connection:
            if connection:
                intake = LiveIntake(runtime, subscription, connection)
                self._live[subscription.name] = intake
                await intake.run()

    async def _write_status(self) -> None:
        """Write the status every few seconds, and at once when reading begins or has paused."""
        worker = Worker("status")
        try:
            while True:
                await self._beat(worker)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), status.BEAT_SECONDS)
                self._changed.clear()
        finally:
            with suppress(*DATABASE_AWAY, TimeoutError):
                await asyncio.wait_for(
                    worker.run(status.sign_off, self._instance), SIGN_OFF_SECONDS
                )
            await worker.close()

    async def _beat(self, worker: Worker) -> None:
        runtime = self._runtime
        try:
            await worker.run(
                status.beat,
                self._instance,
                started_at=self._started_at,
                connected=self._is_connected(),
                paused=self._is_paused(),
                details=_details(runtime) if runtime else {},
            )
        except DATABASE_AWAY as error:
            breaker.DATABASE.failed(str(error))
            log.warning("could not write the status", error=str(error).strip())
        except AnyDatabaseError as error:
            log.warning("could not write the status", error=str(error).strip())

    def _is_connected(self) -> bool:
        """Return whether all intakes read or are paused; a connection alone says nothing about the
        devices."""
        connected = self._runtime and self._runtime.connection.is_connected
        return bool(connected and (self._is_listening() or self._is_paused()))

    def _is_listening(self) -> bool:
        return bool(
            self._runtime
            and self._runtime.connection.is_connected
            and len(self._intakes) == len(DEVICE_STREAMS)
            and all(intake.is_reading for intake in self._intakes.values())
        )

    def _is_paused(self) -> bool:
        return bool(
            self._runtime
            and not self._runtime.in_service.is_set()
            and all(intake.is_paused for intake in self._intakes.values())
            and all(intake.is_paused for intake in self._live.values())
        )


async def _read_stream(runtime: Runtime, subscription: StreamSubscription) -> None:
    await DurableIntake.of_stream(runtime, subscription).run()


async def _pending(
    tasks: Collection[asyncio.Task[None]], timeout: float
) -> set[asyncio.Task[None]]:
    """Return those that have not finished by then."""
    if not tasks:
        return set()
    _, pending = await asyncio.wait(tasks, timeout=timeout)
    return pending


async def _cancel(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancel tasks, and wait while they clean up, but no longer."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=SIGN_OFF_SECONDS + CLOSE_SECONDS + 1)


def _details(runtime: Runtime) -> dict[str, Any]:
    # Copies are read, since periodic work adds its own from other threads.
    return {
        "counters": dict(sorted(dict(runtime.counters).items())),
        "breakers": breaker.states(),
        **{name: read() for name, read in dict(runtime.gauges).items()},
    }
