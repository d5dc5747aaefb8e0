"""The table of message kinds: how each travels, how long the broker keeps it, how its body is read.

Subjects, permissions, stream declarations and decoding follow from this table. A new kind of
message is a row here, a handler in an app's `handlers` module, and the action that it calls.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Annotated, Any
from uuid import UUID

import msgspec

from natsbridge.protocol import lenient

JsonObject = dict[str, Any]

# The longest that a heartbeat may have, in characters.
MAX_VERSION, MAX_SESSION = 64, 128


class Heartbeat(msgspec.Struct, frozen=True):
    """A device's sign of life. A field is None where the agent left it out."""

    agent_version: Annotated[str, msgspec.Meta(max_length=MAX_VERSION)] | None = None
    session_id: Annotated[str, msgspec.Meta(max_length=MAX_SESSION)] | None = None
    timestamp: float | None = None
    timestamp_ms: float | None = None
    capabilities: JsonObject | None = None
    system_info: JsonObject | None = None
    status: JsonObject | str | None = None

    @classmethod
    def read_leniently(cls, body: JsonObject) -> "Heartbeat":
        status = body.get("status")
        return cls(
            agent_version=lenient.text(body.get("agent_version"), MAX_VERSION),
            session_id=lenient.text(body.get("session_id"), MAX_SESSION),
            timestamp=lenient.number(body.get("timestamp")),
            timestamp_ms=lenient.number(body.get("timestamp_ms")),
            capabilities=lenient.capabilities(body.get("capabilities")),
            system_info=lenient.json_object(body.get("system_info")),
            status=status if isinstance(status, str) else lenient.json_object(status),
        )


class CommandResult(msgspec.Struct, frozen=True):
    """The outcome of a command: `status` is `received` (a receipt), `success` or `error`.

    Whatever else the agent reports about the run stays in the message's own JSON.
    """

    status: str
    result: Any = None
    error: Any = None
    # How many bytes the result had, where the agent has cut it.
    cut_from: Any = None


class Response(msgspec.Struct, frozen=True):
    """A device's answer to one command."""

    command_id: UUID
    result: CommandResult


class Metric(msgspec.Struct, frozen=True):
    """One point of a live metric."""

    value: float
    timestamp: float | None = None
    timestamp_ms: float | None = None

    @classmethod
    def read_leniently(cls, body: JsonObject) -> "Metric":
        times = {name: lenient.number(body.get(name)) for name in ("timestamp", "timestamp_ms")}
        return msgspec.convert({"value": body.get("value")} | times, cls)


class Transport(Enum):
    """How messages of a kind travel between a device and the platform."""

    # From the device into the stream INGEST, which keeps every message until it is handled.
    EVERY = auto()
    # From the device into the stream LATEST, which keeps only the newest of each device.
    NEWEST = auto()
    # From the device over core NATS, at most once.
    LIVE = auto()
    # From the platform to the device.
    TO_DEVICE = auto()


@dataclass(frozen=True, slots=True)
class MessageKind:
    """One row of the table.

    `body` is the type that a message is decoded to, `read_leniently` a second attempt at a JSON
    object that does not fit this type. `alias_of` names the kind that this one is handled as.
    `plural`, where it is set, names the kind in the list of subjects that an agent receives.
    """

    name: str
    transport: Transport
    body: Any = JsonObject
    read_leniently: Callable[[JsonObject], Any] | None = None
    alias_of: str = ""
    plural: str = ""


METRIC = MessageKind(
    "metric", Transport.LIVE, Metric, read_leniently=Metric.read_leniently, plural="metrics"
)
KINDS = (
    MessageKind("heartbeat", Transport.NEWEST, Heartbeat, read_leniently=Heartbeat.read_leniently),
    MessageKind("status", Transport.NEWEST),
    MessageKind("status.heartbeat", Transport.NEWEST, alias_of="heartbeat"),
    MessageKind("response", Transport.EVERY, Response, plural="responses"),
    MessageKind("monitoring", Transport.EVERY),
    MessageKind("sysinfo", Transport.NEWEST),
    MessageKind("command", Transport.TO_DEVICE, plural="commands"),
    METRIC,
)


def message_types(*transports: Transport) -> tuple[str, ...]:
    """Return the names, aliases included, that kinds of these transports have in subjects."""
    return tuple(kind.name for kind in KINDS if kind.transport in transports)


Body = Heartbeat | Response | JsonObject
# What devices publish into streams.
DURABLE_TYPES = message_types(Transport.EVERY, Transport.NEWEST)
# The kinds that this comes to, each of which has a handler.
HANDLED_KINDS = frozenset(
    kind.alias_of or kind.name for kind in KINDS if kind.name in DURABLE_TYPES
)
