"""Pure: what agents send, from bytes to a typed message, or MalformedMessage with the reason.

The body formats are those of the agents in use: bare, or wrapped as
`{tenant_uuid, device_uuid, message_type, payload, timestamp, message_id}`.
"""

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from itertools import accumulate
from typing import Annotated, Any, NamedTuple
from uuid import UUID

import msgspec

from natsbridge.errors import MalformedMessage
from natsbridge.protocol import lenient
from natsbridge.protocol.text import storable_json

MAX_DEPTH = 100
# Epoch seconds until the year 5138; anything larger is epoch milliseconds.
_SECONDS_BELOW = 100_000_000_000
_LATEST = 253_402_300_799  # the last second of the year 9999
# Possessive, so that a string without an end is looked at once: it swallows the rest.
_ALL_BUT_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[^\[\]{}"]+', re.DOTALL)
# Postgres writes a number out: `1e308` takes fifty times its room there. Any `float` of 32 bits
# is in bounds.
_LARGEST = 1e40
_SMALLEST = 1e-40
_UNUSUAL_NUMBER = re.compile(rb"[:\[,]\s*+-?(?:[0-9]{20}|[0-9.]++[eE][+-]?[0-9]{2})")
# What such a number looks like, seen with half closed eyes: quicker than to search for it.
_BLURRED = bytes.maketrans(b"0123456789+-E", b"000000000000e")
_BLURRED_EXPONENT, _BLURRED_INTEGER = b"0e00", b"0" * 20

JsonObject = dict[str, Any]


class RawMessage(NamedTuple):
    """A message as it arrived. `received_at` is the server's clock, `sequence` its number in its
    stream; 0 for a live one."""

    subject: str
    data: bytes
    headers: Mapping[str, str]
    received_at: datetime
    deliveries: int = 1
    sequence: int = 0


# Of a heartbeat, in characters.
MAX_VERSION, MAX_SESSION = 64, 128


class Heartbeat(msgspec.Struct, frozen=True):
    """None is what it does not name."""

    agent_version: Annotated[str, msgspec.Meta(max_length=MAX_VERSION)] | None = None
    session_id: Annotated[str, msgspec.Meta(max_length=MAX_SESSION)] | None = None
    timestamp: float | None = None
    timestamp_ms: float | None = None
    capabilities: JsonObject | None = None
    system_info: JsonObject | None = None
    status: JsonObject | str | None = None


class CommandResult(msgspec.Struct, frozen=True):
    """`status` is `received` (a receipt), `success` or `error`; whatever else the agent says
    of the run stays in the message's own JSON."""

    status: str
    result: Any = None
    error: Any = None
    # How many bytes the result had, where the agent has cut it.
    cut_from: Any = None


class Response(msgspec.Struct, frozen=True):
    command_id: UUID
    result: CommandResult


class Metric(msgspec.Struct, frozen=True):
    value: float
    timestamp: float | None = None
    timestamp_ms: float | None = None


class Unreadable(NamedTuple):
    """In the place of a body that was refused: all that is left is who sent it, and when."""

    reason: str
    detail: str


Body = Heartbeat | Response | JsonObject | Unreadable


class Message(NamedTuple):
    """A durable message whose subject could be read, and its body, but where its handler takes
    unreadable ones too."""

    account: str
    tenant: UUID
    device: UUID
    kind: str
    body: Body
    raw: RawMessage


class _Claims(msgspec.Struct, frozen=True):
    """The parts by which a wrapper is known, and an identity claimed."""

    payload: msgspec.Raw = msgspec.Raw()
    message_type: Any = None
    tenant_uuid: str | None = None
    device_uuid: str | None = None


def _lenient_heartbeat(body: JsonObject) -> Heartbeat:
    status = body.get("status")
    return Heartbeat(
        agent_version=lenient.text(body.get("agent_version"), MAX_VERSION),
        session_id=lenient.text(body.get("session_id"), MAX_SESSION),
        timestamp=lenient.number(body.get("timestamp")),
        timestamp_ms=lenient.number(body.get("timestamp_ms")),
        capabilities=lenient.capabilities(body.get("capabilities")),
        system_info=lenient.members(body.get("system_info")),
        status=status if isinstance(status, str) else lenient.members(status),
    )


def _lenient_metric(body: JsonObject) -> Metric:
    times = {name: lenient.number(body.get(name)) for name in ("timestamp", "timestamp_ms")}
    return msgspec.convert({"value": body.get("value")} | times, Metric)


class _Reader(NamedTuple):
    """Most messages are as they should be: `lenient` reads those that the decoder refuses."""

    decoder: msgspec.json.Decoder[Any]
    lenient: Callable[[JsonObject], Any] | None = None


_claims = msgspec.json.Decoder(_Claims)
_object = msgspec.json.Decoder(JsonObject)
_readers = {
    "heartbeat": _Reader(msgspec.json.Decoder(Heartbeat), _lenient_heartbeat),
    "response": _Reader(msgspec.json.Decoder(Response)),
}
_any_object = _Reader(_object)
_metric = _Reader(msgspec.json.Decoder(Metric), _lenient_metric)


def decode(kind: str, data: bytes, *, tenant: UUID, device: UUID) -> Body:
    """The body of a durable message. Raises MalformedMessage."""
    body: Body = _decode(_readers.get(kind, _any_object), data, tenant=tenant, device=device)
    # As a NUL is spelt, and a harmless backslash before "u0000".
    if b"\\u0000" in data:
        body = msgspec.convert(storable_json(msgspec.to_builtins(body)), type=type(body))
    return body


def decode_metric(data: bytes, *, device: UUID) -> tuple[float, int | None]:
    """Value and epoch milliseconds (None where the agent gave no time). Raises MalformedMessage."""
    metric: Metric = _decode(_metric, data, tenant=None, device=device)
    if not math.isfinite(metric.value):
        raise MalformedMessage("The value is not finite.", reason="not_finite")
    moment = timestamp(metric.timestamp, metric.timestamp_ms)
    return metric.value, None if moment is None else round(moment.timestamp() * 1000)


def timestamp(seconds: float | None, milliseconds: float | None = None) -> datetime | None:
    """UTC, from epoch seconds or milliseconds in either field; None for what is not a time."""
    value = seconds if milliseconds is None else milliseconds
    if value is None:
        return None
    if milliseconds is not None or value >= _SECONDS_BELOW:
        value /= 1000
    return datetime.fromtimestamp(value, UTC) if 0 <= value <= _LATEST else None


def _decode(reader: _Reader, data: bytes, *, tenant: UUID | None, device: UUID) -> Any:
    _refuse_depth(data)
    try:
        claims = _claims.decode(data)
        _refuse_foreign(claims, tenant, device)
        payload = bytes(claims.payload)
        if payload.startswith(b"{") and (claims.message_type or claims.device_uuid):
            data = payload
            _refuse_foreign(_claims.decode(data), tenant, device)
        body = _read(reader, data)
    except msgspec.ValidationError as error:
        raise MalformedMessage(str(error), reason="wrong_type") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedMessage(str(error), reason="malformed_json") from error
    except RecursionError as error:
        raise MalformedMessage("Nested too deeply.", reason="too_deep") from error
    if _may_have_unusual_numbers(data) and _UNUSUAL_NUMBER.search(data):
        _refuse_numbers(msgspec.to_builtins(body))
    return body


def _read(reader: _Reader, data: bytes) -> Any:
    try:
        return reader.decoder.decode(data)
    except msgspec.ValidationError:
        if reader.lenient is None:
            raise
        return reader.lenient(_object.decode(data))


def _refuse_foreign(claims: _Claims, tenant: UUID | None, device: UUID) -> None:
    for name, claimed, proved in (
        ("tenant_uuid", claims.tenant_uuid, tenant),
        ("device_uuid", claims.device_uuid, device),
    ):
        if claimed and proved and claimed != str(proved) and _uuid(claimed) != proved:
            raise MalformedMessage(
                f"The body's {name} is {claimed[:64]!r}, the subject's is {proved}.",
                reason="foreign_identity",
            )


def _uuid(text: str) -> UUID | None:
    """In any spelling."""
    try:
        return UUID(text)
    except ValueError:
        return None


def _refuse_depth(data: bytes) -> None:
    """Cheap for every honest message: only one with many brackets is looked at closely."""
    if data.count(b"[") + data.count(b"{") <= MAX_DEPTH:
        return
    brackets = _ALL_BUT_BRACKETS.sub(b"", data)
    depths = accumulate(1 if bracket in b"[{" else -1 for bracket in brackets)
    if max(depths, default=0) > MAX_DEPTH:
        raise MalformedMessage(f"Nested more than {MAX_DEPTH} levels deep.", reason="too_deep")


def _may_have_unusual_numbers(data: bytes) -> bool:
    blurred = data.translate(_BLURRED)
    return _BLURRED_EXPONENT in blurred or _BLURRED_INTEGER in blurred


def _refuse_numbers(value: Any) -> None:
    if isinstance(value, dict):
        for item in value.values():
            _refuse_numbers(item)
    elif isinstance(value, list):
        for item in value:
            _refuse_numbers(item)
    elif isinstance(value, int | float) and value and not _SMALLEST < abs(value) < _LARGEST:
        raise MalformedMessage("A number is out of range.", reason="number_out_of_range")
