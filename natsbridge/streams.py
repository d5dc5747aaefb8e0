"""The declared streams and consumers, and keeping the server's like them.

A stream is declared here in the change that brings its first real producer and consumer.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any, TypeVar, cast
from uuid import UUID

from nats.js import JetStreamContext
from nats.js.api import (
    AckPolicy,
    Base,
    ConsumerConfig,
    ConsumerInfo,
    DiscardPolicy,
    PersistMode,
    RetentionPolicy,
    StorageType,
    StreamConfig,
    StreamInfo,
)
from nats.js.errors import APIError, NotFoundError

from natsbridge.errors import StreamRefused
from natsbridge.subjects import INGEST_PATTERNS, tenant_stream_name

INGEST = "INGEST"
INGEST_WRITER = "ingest-writer"

_MEGABYTE = 1024**2
_DAY = 24 * 3600.0

Config = TypeVar("Config", bound=Base)


@dataclass(frozen=True, slots=True)
class StreamDeclaration:
    """A stream and its consumers as they shall be; a field left at None is the server's to set."""

    config: StreamConfig
    consumers: tuple[ConsumerConfig, ...] = ()

    @property
    def name(self) -> str:
        return cast(str, self.config.name)


def platform_streams(
    *, ingest_max_bytes: int = 1024 * _MEGABYTE, num_replicas: int = 1
) -> tuple[StreamDeclaration, ...]:
    """The streams of the platform account; three replicas want a cluster of three servers."""
    return (_ingest(ingest_max_bytes, num_replicas),)


def tenant_stream(tenant: UUID) -> StreamDeclaration:
    """The replay window in a tenant's own account.

    It acknowledges nothing: a PubAck tells a device that the platform has its message, and only
    INGEST may say so. Its `max_bytes` is below the account's disk limit, which the server
    reserves. It allows no direct get, whose answer is the bare message: sent with another
    device's command subject as its reply, that would be a forged command.
    """
    return StreamDeclaration(
        StreamConfig(
            name=tenant_stream_name(tenant),
            subjects=[f"tenant.{tenant}.device.>"],
            retention=RetentionPolicy.LIMITS,
            storage=StorageType.FILE,
            discard=DiscardPolicy.OLD,
            max_age=_DAY,
            max_msgs=10_000,
            max_bytes=24 * _MEGABYTE,
            duplicate_window=0.1,
            num_replicas=1,
            no_ack=True,
            allow_direct=False,
            persist_mode=PersistMode.ASYNC,
        )
    )


def _ingest(max_bytes: int, num_replicas: int) -> StreamDeclaration:
    """What devices report, until it is in the database.

    A device that floods is refused at its own 20,000th message while its neighbours go on; that
    many, since a device may have that many answers to give while every subscriber is away.
    Deduplication is by stream, across tenants, hence the shortest window there is.
    """
    return StreamDeclaration(
        StreamConfig(
            name=INGEST,
            subjects=list(INGEST_PATTERNS),
            retention=RetentionPolicy.WORK_QUEUE,
            storage=StorageType.FILE,
            discard=DiscardPolicy.NEW,
            discard_new_per_subject=True,
            max_msgs_per_subject=20_000,
            max_age=0,
            max_msgs=-1,
            max_bytes=max_bytes,
            duplicate_window=0.1,
            num_replicas=num_replicas,
            allow_direct=False,
        ),
        (
            ConsumerConfig(
                durable_name=INGEST_WRITER,
                ack_policy=AckPolicy.EXPLICIT,
                # A batch takes milliseconds, and one that waits for the database says so meanwhile:
                # this is how long what a killed subscriber had taken is nobody's.
                ack_wait=10.0,
                # In a work queue a message out of deliveries would stay for ever; the consumer
                # parks it and TERMs instead.
                max_deliver=-1,
                max_ack_pending=20_000,
            ),
        ),
    )


async def ensure(js: JetStreamContext, declaration: StreamDeclaration) -> list[str]:
    """Make the stream and its consumers as declared; returns what changed, fit to be printed.

    Raises StreamRefused, before anything is changed, if that would lose messages, and with the
    server's words if the server will not do it.
    """
    name = declaration.name
    changes: list[str] = []
    try:
        info = await _stream_info(js, name)
        if info is None:
            await js.add_stream(declaration.config)
            changes.append(f"stream {name} created")
        elif differences := _differences(info.config, declaration.config):
            _refuse_loss(info, declaration.config)
            await js.update_stream(_merged(info.config, declaration.config))
            changes += [f"stream {name}: {difference}" for difference in differences]
        for consumer in declaration.consumers:
            changes += await _ensure_consumer(js, name, consumer)
    except APIError as error:
        raise StreamRefused(f"stream {name}: {error.description}") from error
    return changes


async def verify(js: JetStreamContext, declaration: StreamDeclaration) -> list[str]:
    """How the server differs from the declaration; empty when it does not."""
    name = declaration.name
    info = await _stream_info(js, name)
    if info is None:
        return [f"stream {name} does not exist"]
    found = [f"stream {name}: {text}" for text in _differences(info.config, declaration.config)]
    for consumer in declaration.consumers:
        label = f"consumer {consumer.durable_name} of {name}"
        actual = await _consumer_info(js, name, consumer)
        if actual is None:
            found.append(f"{label} does not exist")
        else:
            found += [f"{label}: {text}" for text in _differences(actual.config, consumer)]
    return found


async def _ensure_consumer(
    js: JetStreamContext, stream: str, consumer: ConsumerConfig
) -> list[str]:
    label = f"consumer {consumer.durable_name} of {stream}"
    info = await _consumer_info(js, stream, consumer)
    if info is None:
        await js.add_consumer(stream, _named(consumer))
        return [f"{label} created"]
    differences = _differences(info.config, consumer)
    if differences:
        await js.add_consumer(stream, _named(_merged(info.config, consumer)))
    return [f"{label}: {difference}" for difference in differences]


async def _stream_info(js: JetStreamContext, name: str) -> StreamInfo | None:
    try:
        return await js.stream_info(name)
    except NotFoundError:
        return None


async def _consumer_info(
    js: JetStreamContext, stream: str, consumer: ConsumerConfig
) -> ConsumerInfo | None:
    try:
        return cast(ConsumerInfo, await js.consumer_info(stream, cast(str, consumer.durable_name)))
    except NotFoundError:
        return None


def _named(consumer: ConsumerConfig) -> ConsumerConfig:
    """With a name the client uses the API that one set of permissions covers."""
    return consumer.evolve(name=consumer.durable_name)


def _refuse_loss(info: StreamInfo, wanted: StreamConfig) -> None:
    """The server would drop what a tighter limit no longer covers, without a word."""
    if not info.state.messages:
        return
    held = {"max_msgs": info.state.messages, "max_bytes": info.state.bytes}
    for name in ("max_msgs", "max_bytes", "max_age", "max_msgs_per_subject"):
        old, new = _limit(info.config, name), _limit(wanted, name)
        if new < old and new < held.get(name, old):
            raise StreamRefused(
                f"stream {wanted.name}: {name} {getattr(wanted, name)} would drop messages "
                f"it holds ({info.state.messages}, {info.state.bytes} bytes)"
            )
    if _plain(info.config.retention) != _plain(wanted.retention):
        raise StreamRefused(f"stream {wanted.name}: its retention cannot change while it is in use")


def _limit(config: StreamConfig, name: str) -> float:
    value: float | None = getattr(config, name)
    return value if value is not None and value > 0 else float("inf")


def _merged(actual: Config, wanted: Config) -> Config:
    return actual.evolve(**dict(_declared(wanted)))


def _differences(actual: Base, wanted: Base) -> list[str]:
    return [
        f"{name} is {_plain(getattr(actual, name))}, declared {value}"
        for name, value in ((name, _plain(value)) for name, value in _declared(wanted))
        if (_plain(getattr(actual, name)) or 0) != (value or 0)
    ]


def _declared(config: Base) -> Iterator[tuple[str, Any]]:
    for each in fields(config):
        value = getattr(config, each.name)
        # nats-py and the server spell an undeclared window as 0, everything else as null.
        if value is not None and (each.name, value) != ("duplicate_window", 0):
            yield each.name, value


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value
