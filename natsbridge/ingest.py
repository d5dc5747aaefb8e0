"""Durable messages: pulled in batches, dispatched, acknowledged after the commit."""

import asyncio
from collections.abc import Callable, Sequence

import structlog
from django.conf import settings
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from natsbridge import streams
from natsbridge.dispatch import Dispatcher, Verdict
from natsbridge.envelope import RawMessage
from natsbridge.errors import BridgeError, DependencyAway
from natsbridge.pull import PullConsumer
from natsbridge.registry import Registry
from natsbridge.runtime import DATABASE_AWAY, Runtime, Worker

log = structlog.get_logger(__name__)

# How long the n-th delivery of a failing message waits; the last one repeats.
RETRY_DELAYS = (1, 5, 15, 60)


class Ingest:
    """INGEST through `ingest-writer`: the consumer half of the subscriber."""

    def __init__(
        self, runtime: Runtime, registry: Registry, *, on_reading: Callable[[], None]
    ) -> None:
        self._runtime = runtime
        self._on_reading = on_reading
        self._carrying_on = False
        runtime.gauges["ingest"] = self._state
        self._worker = Worker("ingest")
        self._dispatcher = Dispatcher(registry, max_deliveries=settings.INGEST_MAX_DELIVERIES)
        self._pull = PullConsumer(
            streams.INGEST,
            streams.INGEST_WRITER,
            batch=settings.INGEST_BATCH,
            on_missing=self._ensure_streams,
        )
        self._bound: Client | None = None

    async def run(self) -> None:
        try:
            await self._read()
        finally:
            self._carrying_on = False
            await self._pull.stop()
            await self._worker.close()

    @property
    def is_reading(self) -> bool:
        """Whether what devices send now would be taken from the broker and stored."""
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
            if client is not self._bound:
                await self._ensure_streams()
                await self._pull.bind(client)
                self._bound = client
            messages = await self._pull.batch(1.0)
            if messages:
                await self._process(messages)
            self._carry_on()

    def _carry_on(self) -> None:
        before = self.is_reading
        self._carrying_on = True
        if self.is_reading and not before:
            self._on_reading()

    async def _ensure_streams(self) -> None:
        """Streams that are missing are made; one that cannot be is said and tried again."""
        try:
            jetstream = self._runtime.connection.client.jetstream()
            for declaration in streams.platform_streams(
                ingest_max_bytes=settings.INGEST_MAX_BYTES, num_replicas=settings.NATS_REPLICAS
            ):
                for change in await streams.ensure(jetstream, declaration):
                    log.info("stream ensured", change=change)
        except (NatsError, BridgeError) as error:
            log.warning("waiting for the broker's streams", error=str(error))
            await self._runtime.pause(1.0)

    async def _process(self, messages: Sequence[Msg]) -> None:
        raws = [_raw(message) for message in messages]
        attempt = 0
        while True:
            try:
                verdicts, rejections = await self._worker.run(self._dispatcher.dispatch, raws)
                break
            except (*DATABASE_AWAY, DependencyAway) as error:
                if self._runtime.stopping.is_set():
                    return  # not acknowledged, so it comes again after the restart
                attempt += 1
                self._carrying_on = False
                self._runtime.counters["ingest.waits_for_database"] += 1
                log.warning(
                    "batch waits for the database", size=len(raws), error=str(error).strip()
                )
                await self._still_working(messages)
                await self._runtime.pause(min(attempt, 5))
        self._runtime.counters["ingest.messages"] += len(raws)
        for rejection in rejections:
            self._runtime.counters[f"parked.{rejection.reason}"] += 1
        await self._settle(messages, verdicts, raws)

    async def _settle(
        self, messages: Sequence[Msg], verdicts: Sequence[Verdict], raws: Sequence[RawMessage]
    ) -> None:
        client = self._runtime.connection.client
        for message, verdict, raw in zip(messages, verdicts, raws, strict=True):
            match verdict:
                case Verdict.DONE:
                    answer = b"+ACK"
                case Verdict.PARKED:
                    answer = b"+TERM"
                case Verdict.RETRY:
                    delay = RETRY_DELAYS[min(raw.deliveries, len(RETRY_DELAYS)) - 1]
                    answer = b'-NAK {"delay": %d}' % (delay * 1_000_000_000)
            await self._answer(client, message, answer)

    async def _still_working(self, messages: Sequence[Msg]) -> None:
        """Keeps the server from giving them to somebody else, who would wait as well."""
        for message in (*messages, *self._pull.waiting):
            await self._answer(self._runtime.connection.client, message, b"+WPI")

    async def _answer(self, client: Client, message: Msg, answer: bytes) -> None:
        """An answer that does not get through costs a redelivery, which the writes allow."""
        try:
            await client.publish(message.reply, answer)
        except NatsError as error:
            log.debug("could not answer", subject=message.subject, error=str(error))
            await asyncio.sleep(0)


def _raw(message: Msg) -> RawMessage:
    metadata = message.metadata
    return RawMessage(
        message.subject,
        message.data,
        message.headers or {},
        metadata.timestamp,
        metadata.num_delivered or 1,
    )
