"""Publish messages that cannot be used to the dead-letter queue.

The queue is a stream at the broker, so a message is safe there even while Postgres is away. A
consumer copies it into the table that the admin shows: `natsbridge.dead_letters.store`.
"""

import asyncio
import time
from collections.abc import Callable, Sequence

import structlog
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import NoStreamResponseError

from natsbridge.errors import BridgeError
from natsbridge.jetstream import declaration_settings, declarations, streams
from natsbridge.protocol import dead_letter
from natsbridge.protocol.subjects import dead_letter_subject
from natsbridge.registry import Rejection
from natsbridge.runtime import Runtime

log = structlog.get_logger(__name__)

_AT_ONCE = 100
_ACK_SECONDS = 5.0
_HEADER_ROOM = 1024


class DeadLetterPublisher:
    """Publishes the messages that `source`, a part of the subscriber, rejects.

    `body` removes from a body what must not be stored.
    """

    def __init__(
        self,
        runtime: Runtime,
        source: str,
        *,
        stream: str = "",
        body: Callable[[bytes], bytes] | None = None,
    ) -> None:
        self._runtime = runtime
        self._source = source
        self._stream = stream
        self._body = body

    async def publish(
        self, rejections: Sequence[Rejection], attempts: Callable[[Rejection], int]
    ) -> list[bool]:
        """Return which of them are now stored in the queue.

        This takes little more than _ACK_SECONDS, since it stops at the first part of which none
        arrives.
        """
        safe: list[bool] = []
        for start in range(0, len(rejections), _AT_ONCE):
            part = rejections[start : start + _AT_ONCE]
            kept = await asyncio.gather(*(self._keep(each, attempts(each)) for each in part))
            safe += kept
            if not any(kept):
                break
        safe += [False] * (len(rejections) - len(safe))
        for rejection, is_safe in zip(rejections, safe, strict=True):
            name = f"{self._source}.dead_letters_unpublished"
            if is_safe:
                name = f"dead_letters.{rejection.reason}"
            self._runtime.counters[name] += 1
        return safe

    async def _keep(self, rejection: Rejection, attempts: int) -> bool:
        client = self._runtime.connection.client
        message = rejection.message
        if self._body is not None:
            message = message._replace(data=self._body(message.data))
        packed = dead_letter.pack(
            message,
            source=self._source,
            reason=rejection.reason,
            detail=rejection.detail,
            attempts=attempts,
            room=client.max_payload - _HEADER_ROOM,
        )
        headers = {}
        if message.sequence:
            moment = message.received_at.timestamp()
            headers["Nats-Msg-Id"] = f"{self._stream}.{message.sequence}.{moment}"
        subject = dead_letter_subject(message.subject, rejection.reason)
        jetstream = client.jetstream(timeout=_ACK_SECONDS)
        try:
            await jetstream.publish(subject, packed, stream=declarations.DLQ, headers=headers)
        except NoStreamResponseError:
            await self._make(jetstream)
            return False
        except (NatsError, OSError) as error:
            log.warning("dead letter not published", part=self._source, error=str(error))
            return False
        return True

    async def _make(self, jetstream: JetStreamContext) -> None:
        try:
            await streams.ensure(jetstream, declaration_settings.stream(declarations.DLQ))
        except (NatsError, BridgeError) as error:
            log.warning("dead-letter queue missing", error=str(error))


class Sample:
    """Limits the dead letters of live messages by account: AT_ONCE, then A_SECOND.

    Live messages are not acknowledged, so the rest may be dropped: a flood of bad messages does
    not become a flood of dead letters.
    """

    AT_ONCE = 50
    A_SECOND = 0.2
    ACCOUNTS = 10_000

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # By account: how many it had left, and when that was counted.
        self._left: dict[str, tuple[float, float]] = {}

    def of(self, rejections: Sequence[Rejection]) -> list[Rejection]:
        return [each for each in rejections if self._takes(each.message.subject.split(".", 2)[1])]

    def _takes(self, account: str) -> bool:
        now = self._clock()
        if account not in self._left and len(self._left) >= self.ACCOUNTS:
            self._left.clear()
        left, before = self._left.get(account, (float(self.AT_ONCE), now))
        left = min(left + (now - before) * self.A_SECOND, self.AT_ONCE)
        taken = left >= 1
        self._left[account] = (left - taken, now)
        return taken
