"""One running subscriber: connection, consumers and side tasks, supervised, drained at the end."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any

import structlog
from django.db import Error as DatabaseError

from natsbridge import status
from natsbridge.connection import Connection
from natsbridge.ingest import Ingest
from natsbridge.live_intake import LiveIntake
from natsbridge.registry import LiveSubscription, Registry
from natsbridge.runtime import DATABASE_AWAY, Runtime, Worker
from natsbridge.wakeups import Wakeups

log = structlog.get_logger(__name__)

DRAIN_SECONDS = 10.0


class Subscriber:
    """`connect` opens the connection to the platform account, waiting until there is a server."""

    def __init__(
        self,
        registry: Registry,
        connect: Callable[[], AbstractAsyncContextManager[Connection]],
    ) -> None:
        self._registry = registry
        self._connect = connect
        self._started_at = datetime.now(UTC)
        self._instance = f"{socket.gethostname()}:{os.getpid()}"
        self._runtime: Runtime | None = None
        self._opened = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set: then what has been received is finished and acknowledged."""
        wakeups = Wakeups()
        helpers = [
            asyncio.create_task(wakeups.listen(), name="wakeups"),
            asyncio.create_task(self._say_status(), name="status"),
        ]
        try:
            async with AsyncExitStack() as stack:
                opening = asyncio.ensure_future(stack.enter_async_context(self._connect()))
                await _first_of(opening, stop)
                if opening.done():
                    self._runtime = Runtime(opening.result(), wakeups, self._instance)
                    self._opened.set()
                    await self._serve(self._runtime, stop)
                else:
                    opening.cancel()
                    await asyncio.gather(opening, return_exceptions=True)
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)

    async def _serve(self, runtime: Runtime, stop: asyncio.Event) -> None:
        # Each start of a part begins afresh: what made the last one fail is not carried over.
        parts: dict[str, Callable[[], Awaitable[None]]] = {
            "ingest": lambda: Ingest(runtime, self._registry).run()
        }
        for name, subscription in self._registry.live.items():
            parts[name] = partial(_take_in, runtime, subscription)
        for name, side_task in self._registry.side_tasks.items():
            parts[name] = partial(side_task, runtime)
        tasks = [
            asyncio.create_task(runtime.supervise(name, run), name=name)
            for name, run in parts.items()
        ]
        log.info("subscriber running", instance=self._instance, parts=sorted(parts))
        await stop.wait()
        log.info("subscriber draining")
        runtime.stopping.set()
        _, late = await asyncio.wait(tasks, timeout=DRAIN_SECONDS)
        for task in late:
            log.warning("task did not finish in time", task=task.get_name())
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        log.info("subscriber stopped")

    async def _say_status(self) -> None:
        """At once and every few seconds, so that the web can tell waiting from dead, and when
        the connection has been opened."""
        worker = Worker("status")
        try:
            while True:
                await self._beat(worker)
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._opened.wait(), status.BEAT_SECONDS)
                self._opened.clear()
        finally:
            with suppress(*DATABASE_AWAY):
                await worker.run(status.sign_off, self._instance)
            await worker.close()

    async def _beat(self, worker: Worker) -> None:
        runtime = self._runtime
        try:
            await worker.run(
                status.beat,
                self._instance,
                started_at=self._started_at,
                connected=runtime is not None and runtime.connection.is_connected,
                details=_details(runtime) if runtime else {},
            )
        except DatabaseError as error:
            log.warning("could not write the status", error=str(error).strip())


async def _take_in(runtime: Runtime, subscription: LiveSubscription) -> None:
    await LiveIntake(runtime, subscription).run()


async def _first_of(future: asyncio.Future[Connection], stop: asyncio.Event) -> None:
    stopped = asyncio.ensure_future(stop.wait())
    either: list[asyncio.Future[Any]] = [future, stopped]
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()


def _details(runtime: Runtime) -> dict[str, Any]:
    return {
        "counters": dict(sorted(runtime.counters.items())),
        **{name: read() for name, read in runtime.gauges.items()},
    }
