"""Publish what a durable intake rejects as dead letters, without holding up its reading."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from nats.aio.msg import Msg

from natsbridge.dead_letters.publisher import DeadLetterPublisher
from natsbridge.jetstream.declarations import DLQ_PER_SUBJECT
from natsbridge.registry import Rejection
from natsbridge.rules.shares import Sender, Shares, sender_of
from natsbridge.rules.slow_lane import SlowLane

# The most that waits here; the surplus is put off, and comes again.
WAITING = 20_000
WAITING_BYTES = 32 * 1024 * 1024
AT_ONCE = 100
# The pause between two batches, so that a flood of rejections takes only a part of the machine, and
# a smaller part while a flooder is known.
PAUSE, FLOOD_PAUSE = 0.05, 0.2
# How long to go on publishing what waits when stopping.
LAST_SECONDS = 5.0
# A message whose dead letter could not be published comes again after this.
UNPUBLISHED_SECONDS = 15.0

Rejected = tuple[Msg, Rejection]


class Rejections:
    """Rejections that wait to be published, in fair shares of all accounts.

    `remove` deletes a message at the broker, `put_off` lets it come again after some seconds.
    """

    def __init__(
        self,
        publisher: DeadLetterPublisher,
        counters: Counter[str],
        slow_lane: SlowLane,
        *,
        attempts: Callable[[Rejection], int],
        remove: Callable[[Rejected], Awaitable[None]],
        put_off: Callable[[Msg, float], Awaitable[None]],
    ) -> None:
        self._publisher = publisher
        self._counters = counters
        self._slow_lane = slow_lane
        self._attempts = attempts
        self._remove = remove
        self._put_off = put_off
        # A line for each account and reason, as in the dead-letter queue.
        self._waiting: Shares[Rejected] = Shares(each=AT_ONCE // 2)
        self._in_hand: Sequence[Rejected] = ()
        self._came = asyncio.Event()

    @property
    def messages(self) -> list[Msg]:
        """Return those that are neither published yet nor put off."""
        return [message for message, _ in (*self._in_hand, *self._waiting)]

    def clear(self) -> None:
        self._waiting.clear()

    async def add(self, rejected: Sequence[Rejected]) -> int:
        """Queue rejections, and return how many were put off for lack of room.

        One account's flood of one reason displaces its own oldest, as in the dead-letter queue.
        """
        put_off = 0
        for message, rejection in rejected:
            size = len(message.data)
            if len(self._waiting) >= WAITING or self._waiting.bytes + size > WAITING_BYTES:
                await self._put_off(message, UNPUBLISHED_SECONDS)
                put_off += 1
                continue
            line = Sender(sender_of(message.subject).tenant, rejection.reason)
            self._waiting.add(line, (message, rejection), size)
            for displaced in self._waiting.displace(line, DLQ_PER_SUBJECT):
                self._counters["dead_letters.displaced"] += 1
                await self._remove(displaced)
        self._came.set()
        return put_off

    async def run(self) -> None:
        while True:
            if not self._waiting:
                self._came.clear()
                await self._came.wait()
            await self._publish_some()
            in_use = self._slow_lane.is_in_use(time.monotonic())
            await asyncio.sleep(FLOOD_PAUSE if in_use else PAUSE)

    async def publish_the_rest(self) -> None:
        """Publish what still waits, for LAST_SECONDS at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_SECONDS):
                while self._waiting:
                    await self._publish_some()

    async def _publish_some(self) -> None:
        """Publish the next dead letters; remove only messages that the queue has stored."""
        self._in_hand = self._waiting.take(AT_ONCE)
        safe = await self._publisher.publish(
            [rejection for _, rejection in self._in_hand], self._attempts
        )
        for rejected, is_safe in zip(self._in_hand, safe, strict=True):
            if is_safe:
                await self._remove(rejected)
            else:
                await self._put_off(rejected[0], UNPUBLISHED_SECONDS)
        self._in_hand = ()
