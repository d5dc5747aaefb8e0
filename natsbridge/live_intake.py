"""Live messages over core NATS: at most once, handed over some ten times a second."""

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from natsbridge.envelope import RawMessage
from natsbridge.errors import DependencyAway
from natsbridge.parking import park
from natsbridge.registry import LiveSubscription, Rejection
from natsbridge.runtime import DATABASE_AWAY, Runtime, Worker

log = structlog.get_logger(__name__)

INTERVAL = 0.1
# About two minutes of 400 devices; beyond that the oldest make room.
BUFFER = 300_000
BATCH = 20_000
# What one hand-over may park: a flood of bad messages must not become one of rows.
PARKED_PER_BATCH = 50


class LiveIntake:
    """One live subscription: a callback that only appends, and a flush every INTERVAL."""

    def __init__(self, runtime: Runtime, subscription: LiveSubscription) -> None:
        self._runtime = runtime
        self._subscription = subscription
        self._worker = Worker(subscription.name)
        self._buffer: deque[RawMessage] = deque(maxlen=BUFFER)
        # The batch being handed over; it stays here while a server is away.
        self._held: list[RawMessage] = []
        self._bound: Client | None = None
        self._source: Subscription | None = None
        self._waiting_since: datetime | None = None
        runtime.gauges[f"live.{subscription.name}"] = self._state

    async def run(self) -> None:
        try:
            while not self._runtime.stopping.is_set():
                await self._bind()
                await asyncio.sleep(INTERVAL)
                await self._flush()
            await self._unsubscribe()
            await self._flush()
        finally:
            # Else the broker would go on giving a share of the messages to nobody.
            await self._unsubscribe()
            await self._worker.close()

    async def _bind(self) -> None:
        client = self._runtime.connection.client
        if client is self._bound:
            return
        self._source = await client.subscribe(
            self._subscription.subject,
            queue=self._subscription.queue,
            cb=self._receive,
            pending_msgs_limit=BUFFER,
            pending_bytes_limit=256 * 1024 * 1024,
        )
        self._bound = client

    async def _unsubscribe(self) -> None:
        source, self._source = self._source, None
        if source is not None:
            with suppress(NatsError):
                await source.unsubscribe()

    async def _receive(self, message: Msg) -> None:
        if len(self._buffer) == BUFFER:
            self._count("dropped", 1)
        self._buffer.append(RawMessage(message.subject, message.data, {}, datetime.now(UTC)))

    async def _flush(self) -> None:
        while self._held or self._buffer:
            if not self._held:
                size = min(BATCH, len(self._buffer))
                self._held = [self._buffer.popleft() for _ in range(size)]
            try:
                rejections = await self._worker.run(self._subscription.handle, self._held)
            except (*DATABASE_AWAY, DependencyAway) as error:
                if self._waiting_since is None:
                    self._waiting_since = datetime.now(UTC)
                    log.warning("live messages wait", error=str(error).strip())
                await self._runtime.pause(1.0)
                return
            self._waiting_since = None
            self._count("messages", len(self._held))
            self._held = []
            await self._park(rejections)

    async def _park(self, rejections: Sequence[Rejection]) -> None:
        for rejection in rejections:
            self._runtime.counters[f"parked.{rejection.reason}"] += 1
        if not rejections:
            return
        try:
            await self._worker.run(park, rejections[:PARKED_PER_BATCH])
        except DATABASE_AWAY as error:
            log.warning("could not park live messages", error=str(error).strip())

    def _count(self, what: str, number: int) -> None:
        self._runtime.counters[f"live.{self._subscription.name}.{what}"] += number

    def _state(self) -> dict[str, object]:
        waiting = self._waiting_since
        return {
            "buffered": len(self._buffer) + len(self._held),
            "waiting_since": waiting.isoformat() if waiting else None,
        }
