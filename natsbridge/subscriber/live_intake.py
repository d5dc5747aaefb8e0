"""Read live messages over core NATS, at most once, and hand them over ten times a second."""

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

from natsbridge.client.connection import Connection
from natsbridge.dead_letters.publisher import DeadLetterPublisher, Sample
from natsbridge.errors import DependencyAway
from natsbridge.protocol.envelope import RawMessage
from natsbridge.registry import LiveSubscription, Rejection
from natsbridge.rules.shares import Quota
from natsbridge.runtime import DATABASE_AWAY, Runtime, Worker

log = structlog.get_logger(__name__)

INTERVAL = 0.1
# About two minutes of 400 devices. Beyond either limit the oldest are dropped.
BUFFER = 300_000
BUFFER_BYTES = 128 * 1024**2
# The most that the buffer holds of one device and of one tenant: more than either sends in normal
# operation, and all that a flood can take from its neighbours.
OF_ONE_DEVICE = 1_000
OF_ONE_TENANT = BUFFER // 2
# What a message takes besides its body, its subject included (measured).
_OVERHEAD = 600
BATCH = 20_000


class LiveIntake:
    """Buffers the messages of one live subscription, and flushes them every INTERVAL.

    It has a connection of its own, since the server drops one that a flood makes too slow.
    """

    def __init__(
        self, runtime: Runtime, subscription: LiveSubscription, connection: Connection
    ) -> None:
        self._runtime = runtime
        self._connection = connection
        self._subscription = subscription
        self._worker = Worker(subscription.name)
        self._dead_letters = DeadLetterPublisher(runtime, subscription.name)
        self._sample = Sample()
        self._buffer: deque[RawMessage] = deque()
        self._buffered_bytes = 0
        self._quota = Quota(of_device=OF_ONE_DEVICE, of_tenant=OF_ONE_TENANT)
        # The batch that is being handed over; it stays here while a server is away.
        self._held: list[RawMessage] = []
        self._bound: Client | None = None
        self._source: Subscription | None = None
        self._waiting_since: datetime | None = None
        runtime.gauges[f"live.{subscription.name}"] = self._state

    async def run(self) -> None:
        try:
            while not self._runtime.stopping.is_set():
                if self._runtime.in_service.is_set():
                    await self._bind()
                else:
                    # The broker drops what nobody subscribes to: live messages come at most once.
                    await self._unsubscribe()
                await asyncio.sleep(INTERVAL)
                await self._flush()
            await self._unsubscribe()
            await self._flush()
        finally:
            # Otherwise the broker would go on sending a share of the messages to this subscriber.
            await self._unsubscribe()
            await self._worker.close()

    @property
    def is_paused(self) -> bool:
        """Return whether it has stored what it had, and gets no more until the service resumes."""
        idle = not (self._source or self._buffer or self._held)
        return idle and not self._runtime.in_service.is_set()

    async def _bind(self) -> None:
        client = self._connection.client
        if client is self._bound:
            return
        self._source = await client.subscribe(
            self._subscription.subject,
            queue=self._subscription.queue,
            cb=self._receive,
            pending_msgs_limit=BUFFER,
            pending_bytes_limit=BUFFER_BYTES,
        )
        self._bound = client

    async def _unsubscribe(self) -> None:
        source, self._source, self._bound = self._source, None, None
        if source is not None:
            with suppress(NatsError):
                await source.unsubscribe()

    async def _receive(self, message: Msg) -> None:
        if not self._quota.takes(message.subject):
            self._count("dropped", 1)
            return
        self._buffer.append(RawMessage(message.subject, message.data, {}, datetime.now(UTC)))
        self._buffered_bytes += len(message.data) + _OVERHEAD
        while len(self._buffer) > BUFFER or self._buffered_bytes > BUFFER_BYTES:
            self._take_one()
            self._count("dropped", 1)

    def _take_one(self) -> RawMessage:
        message = self._buffer.popleft()
        self._buffered_bytes -= len(message.data) + _OVERHEAD
        self._quota.returns(message.subject)
        return message

    async def _flush(self) -> None:
        while self._held or self._buffer:
            if not self._held:
                size = min(BATCH, len(self._buffer))
                self._held = [self._take_one() for _ in range(size)]
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
            await self._publish(rejections)

    async def _publish(self, rejections: Sequence[Rejection]) -> None:
        if not rejections:
            return
        self._count("bad", len(rejections))
        await self._dead_letters.publish(self._sample.of(rejections), lambda rejection: 1)

    def _count(self, what: str, number: int) -> None:
        self._runtime.counters[f"live.{self._subscription.name}.{what}"] += number

    def _state(self) -> dict[str, object]:
        waiting = self._waiting_since
        return {
            "buffered": len(self._buffer) + len(self._held),
            "buffered_bytes": self._buffered_bytes,
            "connected": self._connection.is_connected,
            "waiting_since": waiting.isoformat() if waiting else None,
        }
