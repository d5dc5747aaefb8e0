"""Compare the server's streams and consumers with their declarations, create and change them."""

from collections.abc import Collection, Iterator
from copy import deepcopy
from dataclasses import dataclass, fields
from enum import Enum
from typing import Any, TypeVar, cast

from nats.js import JetStreamContext
from nats.js.api import Base, ConsumerConfig, ConsumerInfo, StreamConfig, StreamInfo
from nats.js.errors import APIError, NotFoundError

from natsbridge.errors import StreamRefused
from natsbridge.jetstream.declarations import (
    StreamDeclaration,
)

Config = TypeVar("Config", bound=Base)


async def ensure(js: JetStreamContext, declaration: StreamDeclaration) -> list[str]:
    """Create or change the stream and its consumers as declared, and return what changed, as text.

    Raise StreamRefused, before anything is changed, if the change would lose messages, and with
    the server's reason if the server refuses it.
    """
    name = declaration.name
    changes: list[str] = []
    try:
        info = await _stream_info(js, name)
        if info is None:
            await js.add_stream(declaration.config)
            changes.append(f"stream {name} created")
        elif differences := _differences(info.config, declaration.config):
            _refuse_loss(info, declaration)
            await js.update_stream(_merged(info.config, declaration.config))
            changes += [f"stream {name}: {difference}" for difference in differences]
        for consumer in declaration.consumers:
            changes += await _ensure_consumer(js, name, consumer)
    except APIError as error:
        raise StreamRefused(f"stream {name}: {error.description}") from error
    return changes


async def verify(js: JetStreamContext, declaration: StreamDeclaration) -> list[str]:
    """Return how the server differs from the declaration, as text; empty if it does not."""
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


def compare(found: dict[str, Any] | None, declaration: StreamDeclaration) -> list[str]:
    """Return what `verify` does for a stream without consumers whose configuration is known.

    `found` is that configuration as the server spells it, or None if there is no such stream.
    """
    if found is None:
        return [f"stream {declaration.name} does not exist"]
    # nats-py modifies the dictionary that it reads.
    actual = StreamConfig.from_response(deepcopy(found))
    return [
        f"stream {declaration.name}: {text}" for text in _differences(actual, declaration.config)
    ]


@dataclass(frozen=True, slots=True)
class Found:
    """A stream at the server, or one of its consumers.

    `messages` counts what the stream holds, or what the consumer has not finished.
    """

    stream: str
    consumer: str | None = None
    messages: int = 0

    @property
    def path(self) -> str:
        return self.stream if self.consumer is None else f"{self.stream}/{self.consumer}"

    def __str__(self) -> str:
        name = self.stream
        return f"stream {name}" if self.consumer is None else f"consumer {self.consumer} of {name}"


async def undeclared(
    js: JetStreamContext, declarations: Collection[StreamDeclaration]
) -> list[Found]:
    """Return the streams and consumers of the account that are not declared."""
    declared = {
        each.name: {consumer.durable_name for consumer in each.consumers} for each in declarations
    }
    found: list[Found] = []
    for name, messages in await _streams_held(js):
        if name not in declared:
            found.append(Found(name, None, messages))
            continue
        for consumer in await _consumers(js, name):
            if consumer.name not in declared[name]:
                waiting = (consumer.num_pending or 0) + (consumer.num_ack_pending or 0)
                found.append(Found(name, consumer.name, waiting))
    return found


async def remove(js: JetStreamContext, stream: str, consumer: str | None) -> None:
    """Delete the stream with all it holds, or only the consumer, if it is there.

    Raise StreamRefused with the server's reason if the server refuses.
    """
    try:
        if consumer is None:
            await js.delete_stream(stream)
        else:
            await js.delete_consumer(stream, consumer)
    except NotFoundError:
        pass
    except APIError as error:
        raise StreamRefused(f"stream {stream}: {error.description}") from error


async def recreate(
    js: JetStreamContext, declaration: StreamDeclaration, consumer: str | None = None
) -> list[str]:
    """Delete and create again the stream with all it holds, or one consumer with its position."""
    name = declaration.name
    await remove(js, name, consumer)
    what = f"stream {name}" if consumer is None else f"consumer {consumer} of {name}"
    return [f"{what} deleted", *await ensure(js, declaration)]


async def _streams_held(js: JetStreamContext) -> list[tuple[str, int]]:
    """Return the names of all streams, each with the number of messages it holds."""
    found: list[tuple[str, int]] = []
    while page := await js.streams_info(offset=len(found)):
        found += [(cast(str, info.config.name), info.state.messages) for info in page]
    return sorted(found)


async def _consumers(js: JetStreamContext, stream: str) -> list[ConsumerInfo]:
    found: list[ConsumerInfo] = []
    while page := await js.consumers_info(stream, offset=len(found)):
        found += page
    return sorted(found, key=lambda info: info.name)


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
    """Name the consumer: the client then uses the API that the permissions cover."""
    return consumer.evolve(name=consumer.durable_name)


def _refuse_loss(info: StreamInfo, declaration: StreamDeclaration) -> None:
    """Raise StreamRefused for a tighter limit that would silently drop messages."""
    wanted = declaration.config
    if not info.state.messages:
        return
    held = {
        "max_msgs": info.state.messages,
        "max_bytes": info.state.bytes,
        "max_msgs_per_subject": info.state.messages,
    }
    for name in ("max_msgs", "max_bytes", "max_age", "max_msgs_per_subject"):
        old, new = _limit(info.config, name), _limit(wanted, name)
        if name not in declaration.sheds and new < old and new < held.get(name, old):
            raise StreamRefused(
                f"stream {wanted.name}: {name} {getattr(wanted, name)} would drop messages "
                f"it holds ({info.state.messages}, {info.state.bytes} bytes)"
            )
    if _plain(info.config.retention) != _plain(wanted.retention):
        raise StreamRefused(
            f"stream {wanted.name}: its retention cannot change while it holds messages"
        )


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
        # nats-py and the server write an undeclared window as 0, everything else as null.
        if value is not None and (each.name, value) != ("duplicate_window", 0):
            yield each.name, value


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value
