"""One running subscriber: connection, consumers and side tasks, supervised, drained at the end."""

import asyncio
import os
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any

import structlog
from django.db import Error as AnyDatabaseError

from natsbridge.client.connection import Connection
from natsbridge.postgres.wakeups import Wakeups
from natsbridge.registry import LiveSubscription, Registry, StreamSubscription
from natsbridge.runtime import CLOSE_SECONDS, DATABASE_AWAY, Runtime, Worker, supervise
from natsbridge.subscriber import breaker, status
from natsbridge.subscriber.intake import DEVICE_STREAMS, DurableIntake
from natsbridge.subscriber.live_intake import LiveIntake

log = structlog.get_logger(__name__)

DRAIN_SECONDS = 10.0
SIGN_OFF_SECONDS = 2.0


def part_names(registry: Registry) -> list[str]:
    """The parts that a subscriber can have."""
    return sorted({*DEVICE_STREAMS, *registry.streams, *registry.live, *registry.side_tasks})


class Subscriber:
    """`connect` opens the connection to the platform account, waiting until there is a server.

    With `only`, no other parts run than those; see `part_names`.
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
        self._wakeups = Wakeups(registry.channels)
        self._runtime: Runtime | None = None
        self._intakes: dict[str, DurableIntake] = {}
        self._reading = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set: then what has been received is finished and acknowledged.

        Raises what ends the keeping of the connection, which only a programming error can.
        """
        # They outlive the parts, to say that these are being drained; cancelling ends them.
        helpers = self._supervised(
            {"wakeups": self._wakeups.listen, "status": self._say_status}, until=asyncio.Event()
        )
        try:
            async with AsyncExitStack() as stack:
                opening = asyncio.ensure_future(stack.enter_async_context(self._connect()))
                await _first_of(opening, stop)
                if opening.done():
                    self._runtime = Runtime(
                        opening.result(), self._wakeups, self._instance, self._counters
                    )
                    await self._serve(self._runtime, stop)
                else:
                    opening.cancel()
                    await asyncio.gather(opening, return_exceptions=True)
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
        # Each start of a part begins afresh: what made the last one fail is not carried over.
        parts: dict[str, Callable[[], Awaitable[None]]] = {
            name: partial(self._read, runtime, name) for name in DEVICE_STREAMS
        }
        for name, stream in self._registry.streams.items():
            parts[name] = partial(_read_stream, runtime, stream)
        for name, subscription in self._registry.live.items():
            parts[name] = partial(self._take_in, runtime, subscription)
        for name, side_task in self._registry.side_tasks.items():
            parts[name] = partial(side_task, runtime)
        if self._only:
            parts = {name: run for name, run in parts.items() if name in self._only}
        tasks = self._supervised(parts, until=runtime.stopping)
        log.info("subscriber running", instance=self._instance, parts=sorted(parts))
        watching = asyncio.create_task(runtime.connection.watch(), name="watch the connection")
        await _first_of(watching, stop)
        log.info("subscriber draining")
        runtime.stopping.set()
        _, late = await asyncio.wait(tasks, timeout=DRAIN_SECONDS)
        for task in late:
            log.warning("task did not finish in time", task=task.get_name())
        await _cancel(late)
        log.info("subscriber stopped")
        if watching.done():
            watching.result()
        watching.cancel()

    async def _read(self, runtime: Runtime, name: str) -> None:
        intake = self._intakes[name] = DurableIntake.of_devices(
            runtime, name, self._registry, on_reading=self._reading.set
        )
        await intake.run()

    async def _take_in(self, runtime: Runtime, subscription: LiveSubscription) -> None:
        async with AsyncExitStack() as stack:
            opening = asyncio.ensure_future(stack.enter_async_context(self._connect()))
            await _first_of(opening, runtime.stopping)
            if opening.done():
                await LiveIntake(runtime, subscription, opening.result()).run()
            else:
                opening.cancel()
                await asyncio.gather(opening, return_exceptions=True)

    async def _say_status(self) -> None:
        """At once and every few seconds, so that the web can tell waiting from dead, and when
        messages have begun to come in."""
        worker = Worker("status")
        try:
            while True:
                await self._beat(worker)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._reading.wait(), status.BEAT_SECONDS)
                self._reading.clear()
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
                connected=self._is_listening(),
                details=_details(runtime) if runtime else {},
            )
        except DATABASE_AWAY as error:
            breaker.DATABASE.failed(str(error))
            log.warning("could not write the status", error=str(error).strip())
        except AnyDatabaseError as error:
            log.warning("could not write the status", error=str(error).strip())

    def _is_listening(self) -> bool:
        """A connection alone is not enough: silence would be taken for the devices' own."""
        return bool(
            self._runtime
            and self._runtime.connection.is_connected
            and len(self._intakes) == len(DEVICE_STREAMS)
            and all(intake.is_reading for intake in self._intakes.values())
        )


async def _read_stream(runtime: Runtime, subscription: StreamSubscription) -> None:
    await DurableIntake.of_stream(runtime, subscription).run()


async def _cancel(tasks: Collection[asyncio.Task[None]]) -> None:
    """Gives them the time to clean up, but no more."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=SIGN_OFF_SECONDS + CLOSE_SECONDS + 1)


async def _first_of(future: asyncio.Future[Any], stop: asyncio.Event) -> None:
    stopped = asyncio.ensure_future(stop.wait())
    either: list[asyncio.Future[Any]] = [future, stopped]
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()


def _details(runtime: Runtime) -> dict[str, Any]:
    return {
        "counters": dict(sorted(runtime.counters.items())),
        "breakers": breaker.states(),
        **{name: read() for name, read in runtime.gauges.items()},
    }
