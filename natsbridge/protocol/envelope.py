"""Decode what agents send, from bytes to a typed message.

Agents send a body either bare or wrapped, as
`{tenant_uuid, device_uuid, message_type, payload, timestamp, message_id}`.
"""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import accumulate
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from natsbridge.errors import ForeignIdentity, MalformedMessage
from natsbridge.protocol.kinds import (
    KINDS,
    METRIC,
    Body,
    JsonObject,
    MessageKind,
    Metric,
)
from natsbridge.protocol.storable import storable_json

# The header with the id of the request that a command was issued by, and that its response returns.
CORRELATION_ID = "Correlation-Id"
MAX_DEPTH = 100
# A number below this is epoch seconds (until the year 5138), any other is epoch milliseconds.
_SECONDS_BELOW = 100_000_000_000
_LATEST = 253_402_300_799  # the last second of the year 9999
# Possessive, so that a string without an end is scanned only once: it matches all the rest.
_ALL_BUT_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[^\[\]{}"]+', re.DOTALL)
# Postgres stores every digit of a number, so `1e308` takes fifty times its size there. Any 32-bit
# float is within these bounds.
_LARGEST = 1e40
_SMALLEST = 1e-40
_UNUSUAL_NUMBER = re.compile(rb"[:\[,]\s*+-?(?:[0-9]{20}|[0-9.]++[eE][+-]?[0-9]{2})")
# A cheap filter first: with every digit turned into 0, only a body that contains one of these two
# strings pays for the regular expression.
_BLURRED = bytes.maketrans(b"0123456789+-E", b"000000000000e")
_BLURRED_EXPONENT, _BLURRED_INTEGER = b"0e00", b"0" * 20


class RawMessage(NamedTuple):
    """A message as it arrived.

    `received_at` is by the server's clock. `sequence` is the message's number in its stream, or 0
    for a live message.
    """

    subject: str
    data: bytes
    headers: Mapping[str, str]
    received_at: datetime
    deliveries: int = 1
    sequence: int = 0


class Unreadable(NamedTuple):
    """Takes the place of a body that was rejected, for handlers that need only sender and time."""

    reason: str
    detail: str


class Message(NamedTuple):
    """A durable message with its subject parsed and its body decoded."""

    account: str
    tenant: UUID
    device: UUID
    kind: str
    body: Body | Unreadable
    raw: RawMessage


class _Claims(msgspec.Struct, frozen=True):
    """The fields that identify a wrapped body, and the sender that a body claims."""

    payload: msgspec.Raw = msgspec.Raw()
    message_type: Any = None
    tenant_uuid: str | None = None
    device_uuid: str | None = None


class _Reader:
    """Decodes the bodies of one kind: first to its type, and where that fails leniently."""

    def __init__(self, kind: MessageKind) -> None:
        self._decoder = msgspec.json.Decoder(kind.body)
        self._read_leniently = kind.read_leniently

    def read(self, data: bytes) -> Any:
        try:
            return self._decoder.decode(data)
        except msgspec.ValidationError:
            if self._read_leniently is None:
                raise
            return self._read_leniently(_object.decode(data))


_claims = msgspec.json.Decoder(_Claims)
_object = msgspec.json.Decoder(JsonObject)
_readers = {kind.name: _Reader(kind) for kind in KINDS if not kind.alias_of}


def decode(kind: str, data: bytes, *, tenant: UUID, device: UUID) -> Body:
    """Return the body of a durable message. Raise MalformedMessage if it cannot be used."""
    body: Body = _decode(_readers[kind], data, tenant=tenant, device=device)
    # A NUL, or a harmless backslash before "u0000".
    if b"\\u0000" in data:
        body = msgspec.convert(storable_json(msgspec.to_builtins(body)), type=type(body))
    return body


def decode_metric(data: bytes, *, device: UUID) -> tuple[float, int | None]:
    """Return the value and its epoch milliseconds, which are None if the agent gave no time.

    Raise MalformedMessage if the point cannot be used.
    """
    metric: Metric = _decode(_readers[METRIC.name], data, tenant=None, device=device)
    if not math.isfinite(metric.value):
        raise MalformedMessage(
            f"The value is not a finite number: {metric.value}.", reason="not_finite"
        )
    moment = timestamp(metric.timestamp, metric.timestamp_ms)
    return metric.value, None if moment is None else round(moment.timestamp() * 1000)


def timestamp(seconds: float | None, milliseconds: float | None = None) -> datetime | None:
    """Return a time in UTC from epoch seconds or milliseconds in either field, None if invalid."""
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
        body = reader.read(data)
    except msgspec.ValidationError as error:
        raise MalformedMessage(str(error), reason="wrong_type") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedMessage(str(error), reason="malformed_json") from error
    except RecursionError as error:
        raise MalformedMessage(
            f"Nested more than {MAX_DEPTH} levels deep.", reason="too_deep"
        ) from error
    if _may_have_unusual_numbers(data) and _UNUSUAL_NUMBER.search(data):
        _refuse_numbers(msgspec.to_builtins(body))
    return body


def _refuse_foreign(claims: _Claims, tenant: UUID | None, device: UUID) -> None:
    for name, claimed, proved in (
        ("tenant_uuid", claims.tenant_uuid, tenant),
        ("device_uuid", claims.device_uuid, device),
    ):
        if claimed and proved and claimed != str(proved) and _uuid(claimed) != proved:
            raise ForeignIdentity(
                f"The body's {name} is {claimed[:64]!r}, the sender's is {proved}."
            )


def _uuid(text: str) -> UUID | None:
    """Return the UUID in any of its spellings, or None."""
    try:
        return UUID(text)
    except ValueError:
        return None


def _refuse_depth(data: bytes) -> None:
    """Raise MalformedMessage for deep nesting; only a body with many brackets is scanned."""
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
        raise MalformedMessage(
            f"A number is out of range: magnitudes go from {_SMALLEST:g} to {_LARGEST:g}.",
            reason="number_out_of_range",
        )
