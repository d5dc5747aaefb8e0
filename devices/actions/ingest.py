"""What devices report, from a batch of messages to rows, in one transaction.

Every write is idempotent and none goes back in time, so redelivery, and several subscribers with
one device's messages, do no harm. Upserts go in the order of their keys, so that two subscribers
seldom wait for each other in a circle; where Postgres finds one, the batch is tried again.
"""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import msgspec
from django.conf import settings
from django.db import connection, transaction

from devices import live
from devices.actions.commands import wake_delivery
from devices.actions.ownership import reject_foreign
from devices.command_states import COMMAND_STATES
from devices.models import Command, CommandState, RealtimeData
from devices.models.command import NO_RESPONSE
from devices.presence import LAST_WORDS, Presence, Reporter
from devices.results import members_within, within
from natsbridge import envelope
from natsbridge.envelope import Heartbeat, Message, Response
from natsbridge.errors import MalformedMessage
from natsbridge.registry import Rejection

# How many kinds of data one device may have: each is a row.
MAX_KINDS = 100


def record_heartbeats(messages: Sequence[Message]) -> list[Rejection]:
    accepted, rejected = reject_foreign(messages)
    rows: dict[UUID, tuple[Any, ...]] = {}
    for message in sorted(accepted, key=lambda message: message.raw.received_at):
        try:
            rows[message.device] = _heartbeat_row(message)
        except MalformedMessage as error:
            rejected.append(Rejection(message.raw, error.reason, str(error)))
    with transaction.atomic():
        came = _execute_many(_UPSERT_HEARTBEAT, [rows[device] for device in sorted(rows)])
        if Command.objects.filter(device__in=rows, state=CommandState.QUEUED).exists():
            wake_delivery()
    live.push_connectivity(rows)
    live.push_fleets(device for (device,) in came)
    return rejected


def record_realtime_data(messages: Sequence[Message]) -> list[Rejection]:
    """The latest of each kind; what a device says of itself also shows that it is there."""
    accepted, rejected = reject_foreign(messages)
    kinds = _known_kinds(message.device for message in accepted)
    rows: dict[tuple[UUID, str], tuple[Any, ...]] = {}
    seen: dict[UUID, tuple[Any, ...]] = {}
    for message in sorted(accepted, key=lambda message: message.raw.received_at):
        received_at = message.raw.received_at
        kind = _realtime_kind(message)
        seen[message.device] = (message.device, received_at)
        known = kinds.setdefault(message.device, set())
        if kind not in known and len(known) >= MAX_KINDS:
            detail = f"A device may have {MAX_KINDS} kinds of monitoring data."
            rejected.append(Rejection(message.raw, "too_many_kinds", detail))
            continue
        known.add(kind)
        rows[message.device, kind] = (message.device, kind, _json(message.body), received_at)
    with transaction.atomic():
        _execute_many(_UPSERT_SEEN, [seen[device] for device in sorted(seen)])
        _execute_many(_UPSERT_REALTIME, [rows[key] for key in sorted(rows)])
    return rejected


def record_responses(messages: Sequence[Message]) -> list[Rejection]:
    """Receipts and results. One that comes after the command was given up still counts."""
    accepted, rejected = reject_foreign(messages)
    bodies = {id(message): _response(message) for message in accepted}
    known = dict(
        Command.objects.filter(uuid__in={body.command_id for body in bodies.values()}).values_list(
            "uuid", "device_id"
        )
    )
    receipts: dict[UUID, tuple[Any, ...]] = {}
    results: dict[UUID, tuple[Any, ...]] = {}
    for message in accepted:
        body = bodies[id(message)]
        reason = _refusal(known, message, body)
        if reason is not None:
            rejected.append(Rejection(message.raw, *reason))
        elif body.result.status == "received":
            receipts.setdefault(body.command_id, (body.command_id, message.raw.received_at))
        else:
            results.setdefault(body.command_id, _result_row(message, body))
    with transaction.atomic():
        changed = _execute_many(_RECORD_RECEIPT, [receipts[key] for key in sorted(receipts)])
        changed += _execute_many(_RECORD_RESULT, [results[key] for key in sorted(results)])
        _send_the_next(known[uuid] for (uuid,) in changed)
    if changed:
        live.push_commands(list(Command.objects.filter(uuid__in={row[0] for row in changed})))
    return rejected


def _send_the_next(receivers: Iterable[UUID]) -> None:
    """A receipt, or an answer, lets the commands behind it go."""
    devices = set(receivers)
    if devices and Command.objects.filter(device__in=devices, state=CommandState.QUEUED).exists():
        wake_delivery()


def _refusal(known: dict[UUID, UUID], message: Message, body: Response) -> tuple[str, str] | None:
    owner = known.get(body.command_id)
    if owner is None:
        return "unknown_command", f"There is no command {body.command_id}."
    if owner != message.device:
        return "foreign_command", f"Command {body.command_id} is another device's."
    if body.result.status not in ("received", "success", "error"):
        return "wrong_type", f"result.status is {body.result.status[:40]!r}."
    return None


def _heartbeat_row(message: Message) -> tuple[Any, ...]:
    body = message.body
    assert isinstance(body, Heartbeat)  # noqa: S101 (the decoder of this kind makes no other)
    received_at = message.raw.received_at
    own_clock = envelope.timestamp(body.timestamp, body.timestamp_ms)
    offset = (own_clock - received_at).total_seconds() if own_clock else None
    return (
        message.device,
        received_at,
        body.agent_version,
        body.session_id,
        _json({"system_info": _limited(body.system_info), "status": _limited(body.status)}),
        _json(_limited(body.capabilities)),
        offset,
    )


def _limited(part: dict[str, Any] | str) -> dict[str, Any] | str:
    limit: int = settings.DEVICE_INFO_MAX_BYTES
    if isinstance(part, str):
        return str(within(part, limit).value)
    return members_within(part, limit)


def _response(message: Message) -> Response:
    body = message.body
    assert isinstance(body, Response)  # noqa: S101 (the decoder of this kind makes no other)
    return body


def _result_row(message: Message, body: Response) -> tuple[Any, ...]:
    succeeded = body.result.status == "success"
    error = "" if succeeded else _text(body.result.error) or "the agent gave no reason"
    limit = settings.COMMAND_RESULT_MAX_BYTES
    result = within(body.result.result, limit)
    return (
        body.command_id,
        CommandState.SUCCEEDED if succeeded else CommandState.FAILED,
        _json(result.value),
        # Where the agent has cut it already, the agent knows what it was.
        _size(body.result.cut_from) or result.cut_from,
        within(error, limit).value,
        message.raw.received_at,
    )


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
    return value if isinstance(value, str) else _json(value)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _execute_many(statement: str, rows: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """`statement` takes one array a column. Returns what it returns."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    if not columns:
        return []
    with connection.cursor() as cursor:
        cursor.execute(statement, columns)
        return cursor.fetchall() if cursor.description else []


_IS_BACK = (
    f"(known.presence <> '{Presence.ONLINE}' AND (known.presence_at IS NULL OR "
    "EXCLUDED.last_heartbeat > known.presence_at"
    f" + interval '{LAST_WORDS.total_seconds()} seconds'))"
)

# One that is newer than the device's going says that it is back; returned are those that came so.
_UPSERT_HEARTBEAT = f"""
    WITH written AS (
    INSERT INTO devices_connectivity AS known (
        device_id, connection_type, last_heartbeat, last_seen_online, agent_version, session_id,
        connection_info, capabilities, clock_offset_seconds, presence, presence_at, presence_by)
    SELECT device, 'nats', at, at, version, session, info, capabilities, clock,
        '{Presence.ONLINE}', at, '{Reporter.HEARTBEAT}'
    FROM unnest(%s::uuid[], %s::timestamptz[], %s::text[], %s::text[], %s::jsonb[], %s::jsonb[],
        %s::float8[]) AS beat (device, at, version, session, info, capabilities, clock)
    ON CONFLICT (device_id) DO UPDATE SET
        connection_type = 'nats',
        last_heartbeat = EXCLUDED.last_heartbeat,
        last_seen_online = GREATEST(known.last_seen_online, EXCLUDED.last_seen_online),
        agent_version = EXCLUDED.agent_version,
        session_id = EXCLUDED.session_id,
        connection_info = EXCLUDED.connection_info,
        capabilities = EXCLUDED.capabilities,
        clock_offset_seconds = EXCLUDED.clock_offset_seconds,
        presence = CASE WHEN {_IS_BACK} THEN EXCLUDED.presence ELSE known.presence END,
        presence_at = CASE WHEN {_IS_BACK} THEN EXCLUDED.presence_at ELSE known.presence_at END,
        presence_by = CASE WHEN {_IS_BACK} THEN EXCLUDED.presence_by ELSE known.presence_by END
    WHERE known.last_heartbeat IS NULL OR known.last_heartbeat < EXCLUDED.last_heartbeat
    RETURNING device_id, presence_at, presence_by, last_heartbeat
    )
    INSERT INTO devices_presencechange (device_id, presence, at, reported_by, reason)
    SELECT device_id, '{Presence.ONLINE}', presence_at, presence_by, ''
    FROM written WHERE presence_by = '{Reporter.HEARTBEAT}' AND presence_at = last_heartbeat
    RETURNING device_id
"""  # noqa: S608 (made of this package's own constants)

_UPSERT_SEEN = """
    INSERT INTO devices_connectivity AS known (
        device_id, connection_type, last_seen_online, agent_version, session_id,
        connection_info, capabilities)
    SELECT device, 'nats', at, '', '', '{}', '{}'
    FROM unnest(%s::uuid[], %s::timestamptz[]) AS sign (device, at)
    ON CONFLICT (device_id) DO UPDATE SET last_seen_online = EXCLUDED.last_seen_online
    WHERE known.last_seen_online IS NULL OR known.last_seen_online < EXCLUDED.last_seen_online
"""

_UPSERT_REALTIME = """
    INSERT INTO devices_realtimedata AS known (device_id, kind, data, received_at)
    SELECT * FROM unnest(%s::uuid[], %s::text[], %s::jsonb[], %s::timestamptz[])
    ON CONFLICT (device_id, kind) DO UPDATE SET
        data = EXCLUDED.data, received_at = EXCLUDED.received_at
    WHERE known.received_at < EXCLUDED.received_at
"""


def _states(states: Iterable[str]) -> str:
    return ", ".join(f"'{state}'" for state in states)


# Both ends are reached from the same states.
_ANSWERED_FROM = COMMAND_STATES.sources_of(CommandState.SUCCEEDED)
_CORRECTED_FROM = set(
    COMMAND_STATES.sources_of(CommandState.SUCCEEDED, corrections=True)
).difference(_ANSWERED_FROM)

_RECORD_RECEIPT = f"""
    UPDATE devices_command SET state = '{CommandState.DELIVERED}', delivered_at = receipt.at
    FROM unnest(%s::uuid[], %s::timestamptz[]) AS receipt (uuid, at)
    WHERE devices_command.uuid = receipt.uuid
        AND state IN ({_states(COMMAND_STATES.sources_of(CommandState.DELIVERED))})
    RETURNING devices_command.uuid
"""  # noqa: S608 (made of this package's own constants)

# What has failed is corrected only where it was for want of a response.
_RECORD_RESULT = f"""
    UPDATE devices_command SET state = answer.state, result = NULLIF(answer.result, 'null'),
        result_cut_from = answer.cut_from, error = answer.error, finished_at = answer.at
    FROM unnest(%s::uuid[], %s::text[], %s::jsonb[], %s::bigint[], %s::text[], %s::timestamptz[])
        AS answer (uuid, state, result, cut_from, error, at)
    WHERE devices_command.uuid = answer.uuid
        AND (devices_command.state IN ({_states(_ANSWERED_FROM)})
             OR devices_command.state IN ({_states(sorted(_CORRECTED_FROM))})
                AND (devices_command.state <> '{CommandState.FAILED}'
                     OR devices_command.error = '{NO_RESPONSE}'))
    RETURNING devices_command.uuid
"""  # noqa: S608 (made of this package's own constants)
