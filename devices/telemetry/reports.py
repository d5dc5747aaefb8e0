"""What devices report besides heartbeats, from a batch of messages to rows, in one transaction.

Every write is idempotent and none goes back in time, so redelivery, and several subscribers with
one device's messages, do no harm. Upserts go in the order of their keys, so that two subscribers
seldom wait for each other in a circle; where Postgres finds one, the batch is tried again.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction

from devices.commands.issue import wake_delivery_to
from devices.commands.rules.truncation import within
from devices.live import frames
from devices.models import Command, CommandState, RealtimeData
from devices.models.command import Move
from devices.telemetry.tenancy import reject_foreign, reject_unreadable
from natsbridge.postgres.statements import as_json, execute_many
from natsbridge.protocol.envelope import Message, Unreadable
from natsbridge.protocol.kinds import Response
from natsbridge.registry import Rejection

# How many kinds of data one device may have: each is a row.
MAX_KINDS = 100


def record_realtime_data(messages: Sequence[Message]) -> list[Rejection]:
    """The latest of each kind; what a device says of itself also shows that it is there."""
    accepted, rejected = reject_foreign(messages)
    rejected += reject_unreadable(accepted)
    kinds = _known_kinds(message.device for message in accepted)
    rows: dict[tuple[UUID, str], tuple[Any, ...]] = {}
    seen: dict[UUID, datetime] = {}
    for message in sorted(accepted, key=lambda message: message.raw.received_at):
        received_at = message.raw.received_at
        seen[message.device] = received_at
        if isinstance(message.body, Unreadable):
            continue
        kind = _realtime_kind(message)
        known = kinds.setdefault(message.device, set())
        if kind not in known and len(known) >= MAX_KINDS:
            detail = f"A device may have {MAX_KINDS} kinds of monitoring data."
            rejected.append(Rejection(message.raw, "too_many_kinds", detail))
            continue
        known.add(kind)
        rows[message.device, kind] = (message.device, kind, as_json(message.body), received_at)
    with transaction.atomic():
        record_seen(seen)
        execute_many(_UPSERT_REALTIME, [rows[key] for key in sorted(rows)])
    return rejected


def record_seen(devices: Mapping[UUID, datetime]) -> None:
    """When each was heard, by something else than a heartbeat; without those that are deleted."""
    execute_many(_UPSERT_SEEN, sorted(devices.items()))


def record_responses(messages: Sequence[Message]) -> list[Rejection]:
    """Receipts and results. One that comes after the command was given up still counts."""
    accepted, rejected = reject_foreign(messages)
    bodies = {id(message): _response(message) for message in accepted}
    known = dict(
        Command.objects.filter(uuid__in={body.command_id for body in bodies.values()}).values_list(
            "uuid", "device_id"
        )
    )
    receipts: dict[UUID, Move] = {}
    results: dict[UUID, Move] = {}
    for message in accepted:
        body = bodies[id(message)]
        reason = _refusal(known, message, body)
        if reason is not None:
            rejected.append(Rejection(message.raw, *reason))
        elif body.result.status == "received":
            received = {"delivered_at": message.raw.received_at}
            move = Move(body.command_id, CommandState.DELIVERED, received)
            receipts.setdefault(body.command_id, move)
        else:
            results.setdefault(body.command_id, _result(message, body))
    with transaction.atomic():
        delivered = Command.move_each(receipts.values())
        ended = Command.move_each(results.values(), corrections=True)
        # A receipt or a result lets the commands behind it go.
        wake_delivery_to(known[uuid] for uuid in delivered + ended)
    moves = [receipts[uuid] for uuid in delivered] + [results[uuid] for uuid in ended]
    frames.push_states((known[move.uuid], move.uuid, move.state) for move in moves)
    return rejected


def _refusal(known: dict[UUID, UUID], message: Message, body: Response) -> tuple[str, str] | None:
    owner = known.get(body.command_id)
    if owner is None:
        return "unknown_command", f"There is no command {body.command_id}."
    if owner != message.device:
        return "foreign_command", f"Command {body.command_id} is another device's."
    if body.result.status not in ("received", "success", "error"):
        return "wrong_type", f"result.status is {body.result.status[:40]!r}."
    return None


def _response(message: Message) -> Response:
    body = message.body
    assert isinstance(body, Response)  # noqa: S101 (the decoder of this kind makes no other)
    return body


def _result(message: Message, body: Response) -> Move:
    succeeded = body.result.status == "success"
    error = "" if succeeded else _text(body.result.error) or "the agent gave no reason"
    limit = settings.COMMAND_RESULT_MAX_BYTES
    result = within(body.result.result, limit)
    changes = {
        "result": None if result.value is None else as_json(result.value),
        # Where the agent has cut it already, the agent knows what it was.
        "result_cut_from": _size(body.result.cut_from) or result.cut_from,
        "error": within(error, limit).value,
        "finished_at": message.raw.received_at,
        "unanswered": False,
    }
    state = CommandState.SUCCEEDED if succeeded else CommandState.FAILED
    return Move(body.command_id, state, changes)


def _size(said: Any) -> int | None:
    return said if type(said) is int and 0 < said < 2**63 else None


def _known_kinds(devices: Iterable[UUID]) -> dict[UUID, set[str]]:
    kinds: dict[UUID, set[str]] = {}
    rows = RealtimeData.objects.filter(device__in=set(devices)).values_list("device", "kind")
    for device, kind in rows:
        kinds.setdefault(device, set()).add(kind)
    return kinds


def _realtime_kind(message: Message) -> str:
    if message.kind == "monitoring" and isinstance(message.body, dict):
        named = message.body.get("monitoring_type")
        if isinstance(named, str) and named:
            return f"monitoring:{named[:100]}"
    return message.kind


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else as_json(value)


_UPSERT_SEEN = """
    INSERT INTO devices_connectivity AS known (
        device_id, connection_type, last_seen_online, agent_version, session_id,
        connection_info, capabilities)
    SELECT device, 'nats', at, '', '', '{}', '{}'
    FROM unnest(%s::uuid[], %s::timestamptz[]) AS sign (device, at)
    JOIN devices_device ON uuid = device
    ORDER BY device
    ON CONFLICT (device_id) DO UPDATE SET
        connection_type = 'nats', last_seen_online = EXCLUDED.last_seen_online
    WHERE known.last_seen_online IS NULL OR known.last_seen_online < EXCLUDED.last_seen_online
"""

_UPSERT_REALTIME = """
    INSERT INTO devices_realtimedata AS known (device_id, kind, data, received_at)
    SELECT * FROM unnest(%s::uuid[], %s::text[], %s::jsonb[], %s::timestamptz[])
    ON CONFLICT (device_id, kind) DO UPDATE SET
        data = EXCLUDED.data, received_at = EXCLUDED.received_at
    WHERE known.received_at < EXCLUDED.received_at
"""
