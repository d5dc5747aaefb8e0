"""Pull durable messages in batches, dispatch them, and acknowledge them after the commit."""

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from typing import Self

import structlog
from django.conf import settings
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from natsbridge.client.pull import PullConsumer, raw_message
from natsbridge.dead_letters.publisher import DeadLetterPublisher
from natsbridge.errors import BridgeError, DependencyAway
from natsbridge.jetstream import declaration_settings, declarations, streams
from natsbridge.jetstream.declarations import ACK_WAIT, TRIES
from natsbridge.protocol.envelope import RawMessage
from natsbridge.registry import Registry, Rejection, StreamSubscription
from natsbridge.runtime import DATABASE_AWAY, Runtime, Worker
from natsbridge.subscriber.breaker import DATABASE
from natsbridge.subscriber.dispatch import Dispatcher, Reader, Verdict, all_to, device_messages
from natsbridge.subscriber.read_ahead import ReadAhead
from natsbridge.subscriber.rejections import Rejections

log = structlog.get_logger(__name__)

# The parts that read devices' messages, with their streams and consumers.
DEVICE_STREAMS = {
    "ingest": (declarations.INGEST, declarations.INGEST_WRITER),
    "latest": (declarations.LATEST, declarations.LATEST_WRITER),
}
# A database that needs longer for a batch counts as away.
SLOW_SECONDS = 5.0
_ENSURE_AGAIN_SECONDS = 5.0
# How often a paused intake looks whether it still has its stream.
_LOOK_AGAIN_SECONDS = 1.0
# A batch of fewer messages is not large: the next one does not gather.
_GATHER_FROM = 20
# How many answers are sent before other tasks get a turn: publishing alone gives them none.
BREATH = 100


class DurableIntake:
    """Reads one stream through its durable consumer; a subscriber has one for each stream."""

    def __init__(
        self,
        runtime: Runtime,
        name: str,
        *,
        stream: str,
        consumer: str,
        read: Reader,
        dead_letter_body: Callable[[bytes], bytes] | None = None,
        on_change: Callable[[], None] | None = None,
        gather: float = 0.0,
        pausable: bool = False,
    ) -> None:
        self._runtime = runtime
        self._pausable = pausable
        self._gather = gather
        self._name = name
        self._stream = stream
        self._on_change = on_change
        self._carrying_on = False
        # It has finished what it had read, and reads no more while the service is paused.
        self.is_paused = False
        runtime.gauges[name] = self._state
        self._worker = Worker(name)
        self._dispatcher = Dispatcher(read, tries=TRIES[consumer])
        self._rejections = Rejections(
            DeadLetterPublisher(runtime, name, stream=stream, body=dead_letter_body),
            runtime.counters,
            runtime.slow_lane,
            attempts=lambda rejection: self._dispatcher.attempts(rejection.message),
            remove=self._remove,
            put_off=self._put_off,
        )
        self._pull = PullConsumer(
            stream, consumer, batch=settings.INGEST_BATCH, on_missing=self._ensure_stream
        )
        self._ahead = ReadAhead(
            name, self._pull, runtime.counters, runtime.slow_lane, put_off=self._put_off
        )
        # The messages that are being handled.
        self._in_hand: Sequence[Msg] = ()
        self._answers = 0
        # The one whose stream was ensured.
        self._client: Client | None = None
        # When to try again to create the stream, or to change it to what is declared.
        self._ensure_at: float | None = None

    @classmethod
    def of_devices(
        cls, runtime: Runtime, name: str, registry: Registry, *, on_change: Callable[[], None]
    ) -> Self:
        """Return the intake of devices' messages that `name`, one of DEVICE_STREAMS, stands for.

        It calls `on_change` when it begins to read, and when it has paused.
        """
        stream, consumer = DEVICE_STREAMS[name]
        return cls(
            runtime,
            name,
            stream=stream,
            consumer=consumer,
            read=device_messages(registry),
            on_change=on_change,
            pausable=True,
        )

    @classmethod
    def of_stream(cls, runtime: Runtime, subscription: StreamSubscription) -> Self:
        return cls(
            runtime,
            subscription.name,
            stream=subscription.stream,
            consumer=subscription.consumer,
            read=all_to(subscription),
            dead_letter_body=subscription.dead_letter_body,
            gather=subscription.gather,
        )

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                helping = (self._hurry_when_stopping, self._keep_ours, self._rejections.run)
                helpers = [tasks.create_task(helper()) for helper in helping]
                try:
                    await self._read()
                finally:
                    for helper in helpers:
                        helper.cancel()
            await self._rejections.publish_the_rest()
        finally:
            self._carrying_on = False
            await self._pull.stop()
            await self._hand_back(self._ours())
            await self._worker.close()

    @property
    def is_reading(self) -> bool:
        """Whether a message that is sent now would be taken from the broker and stored."""
        return self._carrying_on and self._pull.is_served

    def _state(self) -> dict[str, object]:
        silence = self._pull.silence
        return {
            "reading": self.is_reading,
            "last_sign": None if silence is None else round(silence, 1),
        }

    async def _read(self) -> None:
        while not self._runtime.stopping.is_set():
            client = self._runtime.connection.client
            await self._follow(client)
            if self._pausable and not self._runtime.in_service.is_set():
                await self._stay_paused()
            else:
                self.is_paused = False
                if not self._pull.is_bound_to(client):
                    await self._pull.bind(client)
                await self._read_some()

    async def _follow(self, client: Client) -> None:
        """Keep the stream as declared, and drop what an older client had brought."""
        if client is not self._client:
            await self._ensure_stream()
            # The server sends it again.
            self._ahead.clear()
            self._rejections.clear()
            self._client = client
        elif self._ensure_at is not None and time.monotonic() > self._ensure_at:
            await self._ensure_stream()

    async def _read_some(self) -> None:
        await self._ahead.read()
        if messages := self._ahead.take(settings.INGEST_BATCH):
            await self._process(messages)
        self._carry_on()
        # After a large batch, let the next one gather.
        if self._gather and len(messages) >= _GATHER_FROM and not self._ahead:
            await self._runtime.pause(self._gather)

    async def _stay_paused(self) -> None:
        """Finish what was read, then read nothing for a while, or until the service is resumed."""
        await self._pull.finish()
        while (self._pull.waiting or self._ahead) and not self._runtime.stopping.is_set():
            await self._read_some()
        if not self.is_paused and self._on_change:
            self._on_change()
        self.is_paused = True
        await self._runtime.wait_for_service(_LOOK_AGAIN_SECONDS)

    async def _hurry_when_stopping(self) -> None:
        await self._runtime.stopping.wait()
        self._pull.stop_waiting()

    def _carry_on(self) -> None:
        before = self.is_reading
        self._carrying_on = True
        if self._on_change and self.is_reading and not before:
            self._on_change()

    async def _ensure_stream(self) -> None:
        """Create the stream if it is missing; if that fails, log it and try again later."""
        self._ensure_at = None
        try:
            jetstream = self._runtime.connection.client.jetstream()
            declared = declaration_settings.stream(self._stream)
            for change in await streams.ensure(jetstream, declared):
                log.info("stream ensured", change=change)
        except (NatsError, BridgeError) as error:
            log.warning("waiting for the broker's stream", stream=self._stream, error=str(error))
            self._ensure_at = time.monotonic() + _ENSURE_AGAIN_SECONDS
            await self._runtime.pause(1.0)

    async def _process(self, messages: Sequence[Msg]) -> None:
        raws = [raw_message(message) for message in messages]
        self._in_hand = messages
        waits = False
        while (dispatched := await self._dispatch(raws)) is None:
            if self._runtime.stopping.is_set():
                return
            if not waits:
                waits = True
                self._runtime.counters[f"{self._name}.waits_for_database"] += 1
                log.warning("batch waits", part=self._name, size=len(raws))
            self._carrying_on = False
            await self._runtime.pause(0.5)
        self._runtime.counters[f"{self._name}.messages"] += len(raws)
        await self._answer_batch(messages, raws, *dispatched)
        self._in_hand = ()

    async def _dispatch(
        self, raws: Sequence[RawMessage]
    ) -> tuple[list[Verdict], list[Rejection]] | None:
        """Return verdicts and rejections, or None while a server that is needed is away."""
        if not DATABASE.admits():
            return None
        slow = asyncio.get_running_loop().call_later(SLOW_SECONDS, self._note_slow)
        try:
            outcome = await self._worker.run(self._dispatcher.dispatch, raws)
        except DATABASE_AWAY as error:
            DATABASE.failed(str(error))
            return None
        except DependencyAway as error:
            log.warning("batch waits", part=self._name, error=str(error))
            return None
        finally:
            slow.cancel()
        DATABASE.succeeded()
        return outcome

    def _note_slow(self) -> None:
        self._carrying_on = False
        for _ in range(2):
            DATABASE.failed(f"no answer to a batch within {SLOW_SECONDS:.0f} s")

    async def _answer_batch(
        self,
        messages: Sequence[Msg],
        raws: Sequence[RawMessage],
        verdicts: Sequence[Verdict],
        rejections: Sequence[Rejection],
    ) -> None:
        by_raw = {id(raw): message for raw, message in zip(raws, messages, strict=True)}
        for message, raw, verdict in zip(messages, raws, verdicts, strict=True):
            if verdict is Verdict.DONE:
                self._dispatcher.forget(raw)
                await self._answer(message, b"+ACK")
            elif verdict is Verdict.RETRY:
                await self._put_off(message, self._dispatcher.delay(raw))
        put_off = await self._rejections.add(
            [(by_raw[id(rejection.message)], rejection) for rejection in rejections]
        )
        # These come again, and are counted then.
        self._runtime.counters[f"{self._name}.messages"] -= put_off

    async def _remove(self, rejected: tuple[Msg, Rejection]) -> None:
        message, rejection = rejected
        self._dispatcher.forget(rejection.message)
        await self._answer(message, b"+TERM")

    async def _put_off(self, message: Msg, seconds: float) -> None:
        await self._answer(message, b"-NAK " + json.dumps({"delay": int(seconds * 1e9)}).encode())

    def _ours(self) -> list[Msg]:
        """Return the messages that were taken from the broker and are not answered yet."""
        rejected = self._rejections.messages
        return [*self._in_hand, *self._ahead, *self._pull.waiting, *rejected]

    async def _keep_ours(self) -> None:
        """Keep the server from giving them to another subscriber, which would wait as well."""
        while True:
            await asyncio.sleep(ACK_WAIT / 3)
            for message in self._ours():
                await self._answer(message, b"+WPI")

    async def _hand_back(self, messages: Sequence[Msg]) -> None:
        """Let another subscriber have what was not decided at once, not only after `ack_wait`."""
        for message in messages:
            await self._answer(message, b"-NAK")

    async def _answer(self, message: Msg, answer: bytes) -> None:
        """Answer a message; a lost answer leads to a redelivery, which the writes allow."""
        self._answers += 1
        if self._answers % BREATH == 0:
            await asyncio.sleep(0)
        try:
            await self._runtime.connection.client.publish(message.reply, answer)
        except NatsError as error:
            log.debug("could not answer", subject=message.subject, error=str(error))
            await asyncio.sleep(0)
