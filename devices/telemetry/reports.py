"""Store the latest report of each kind from each device, a batch in one transaction.

Every write is idempotent and none goes back in time, so redelivery, and several subscribers with
one device's messages, do no harm. Rows are written in the order of their keys, so that subscribers
seldom deadlock; where Postgres finds a deadlock, the batch is tried again.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction

from devices.models import RealtimeData
from devices.telemetry.tenancy import reject_foreign, reject_unreadable
from natsbridge.postgres.statements import as_json, execute_many
from natsbridge.protocol.envelope import Message, Unreadable
from natsbridge.registry import Rejection

# How many kinds of reports one device may have; each is a row.
MAX_KINDS = 100


def record_realtime_data(messages: Sequence[Message]) -> list[Rejection]:
    """Store the latest report of each kind. A report also shows that its device is online."""
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
    """Store when each device was last heard, other than by a heartbeat; skip deleted devices."""
    execute_many(_UPSERT_SEEN, sorted(devices.items()))


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
