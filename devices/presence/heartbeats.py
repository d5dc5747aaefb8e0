"""Record a batch of heartbeats in one transaction.

A heartbeat may leave out parts that have not changed; the last value of each part is kept. One
that is not newer than the stored one changes nothing, so redelivery and several subscribers do no
harm. Rows are written in the order of their keys, so that subscribers seldom deadlock; where
Postgres finds a deadlock, the batch is tried again.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import transaction

from devices.commands.issue import wake_delivery_to
from devices.commands.rules.truncation import members_within, within
from devices.live import frames
from devices.presence.rules import LAST_WORDS, Presence, Reporter
from devices.telemetry.tenancy import reject_foreign, reject_unreadable
from natsbridge.postgres.statements import as_json, execute_many
from natsbridge.protocol import envelope
from natsbridge.protocol.envelope import Message
from natsbridge.protocol.kinds import Heartbeat, JsonObject
from natsbridge.registry import Rejection


def record_heartbeats(messages: Sequence[Message]) -> list[Rejection]:
    """Record the heartbeats. One whose body was rejected still shows that its device is online."""
    accepted, rejected = reject_foreign(messages)
    rejected += reject_unreadable(accepted)
    beats: dict[UUID, _Beat] = {}
    for message in sorted(accepted, key=lambda message: message.raw.received_at):
        beats[message.device] = _beat(message).after(beats.get(message.device))
    with transaction.atomic():
        came = execute_many(_UPSERT_HEARTBEAT, [beats[device].row() for device in sorted(beats)])
        wake_delivery_to(beats)
    frames.push_connectivity(beats)
    frames.push_fleets(device for (device,) in came)
    return rejected


class _Beat(NamedTuple):
    """One or several heartbeats of a device combined. A part is None if none of them names it."""

    device: UUID
    at: datetime
    agent_version: str | None
    session_id: str | None
    system_info: JsonObject | None
    status: JsonObject | str | None
    capabilities: JsonObject | None
    capabilities_at: datetime | None
    clock_offset: float | None

    def after(self, before: "_Beat | None") -> "_Beat":
        """Combine this with an earlier one; a new session of the agent inherits no receipts."""
        if before is None:
            return self
        if self.capabilities is None and self.session_id not in (None, before.session_id):
            claimed = before.capabilities or {}
            before = before._replace(
                capabilities={name: claimed[name] for name in claimed if name != "receipts"}
            )
        pairs = zip(before, self, strict=True)
        return _Beat._make(old if new is None else new for old, new in pairs)

    def row(self) -> tuple[Any, ...]:
        """Return the values in the order of _UPSERT_HEARTBEAT's columns."""
        parts = {"system_info": self.system_info, "status": self.status}
        return (
            self.device,
            self.at,
            self.agent_version or "",
            self.session_id or "",
            as_json({name: limited(part) for name, part in parts.items() if part is not None}),
            as_json(limited(self.capabilities or {})),
            self.capabilities_at,
            self.clock_offset,
        )


def _beat(message: Message) -> _Beat:
    body = message.body if isinstance(message.body, Heartbeat) else Heartbeat()
    received_at = message.raw.received_at
    own_clock = envelope.timestamp(body.timestamp, body.timestamp_ms)
    return _Beat(
        message.device,
        received_at,
        body.agent_version or None,
        body.session_id or None,
        body.system_info,
        body.status,
        body.capabilities,
        None if body.capabilities is None else received_at,
        (own_clock - received_at).total_seconds() if own_clock else None,
    )


def limited(part: JsonObject | str) -> JsonObject | str:
    """Return as much of a heartbeat's part as is stored."""
    limit: int = settings.DEVICE_INFO_MAX_BYTES
    if isinstance(part, str):
        return str(within(part, limit).value)
    return members_within(part, limit)


# What `rules.is_back` says, in SQL; a test holds the two together.
_IS_BACK = (
    f"(known.presence <> '{Presence.ONLINE}' AND (known.presence_at IS NULL OR "
    "EXCLUDED.last_heartbeat > known.presence_at"
    f" + interval '{LAST_WORDS.total_seconds()} seconds'))"
)


def _newest_of(part: str) -> str:
    """Return SQL for one part of `connection_info`: the new value, else the stored one."""
    return f"COALESCE(EXCLUDED.connection_info->'{part}', known.connection_info->'{part}', '{{}}')"


# Return the devices that came back online. What a heartbeat does not name is an empty text or a
# null time.
_UPSERT_HEARTBEAT = f"""
    WITH written AS (
    INSERT INTO devices_connectivity AS known (
        device_id, connection_type, last_heartbeat, last_seen_online, agent_version, session_id,
        connection_info, capabilities, capabilities_at, clock_offset_seconds,
        presence, presence_at, presence_by)
    SELECT device, 'nats', at, at, version, session, info, capabilities, capabilities_at, clock,
        '{Presence.ONLINE}', at, '{Reporter.HEARTBEAT}'
    FROM unnest(%s::uuid[], %s::timestamptz[], %s::text[], %s::text[], %s::json[], %s::jsonb[],
        %s::timestamptz[], %s::float8[])
        AS beat (device, at, version, session, info, capabilities, capabilities_at, clock)
    ON CONFLICT (device_id) DO UPDATE SET
        connection_type = 'nats',
        last_heartbeat = EXCLUDED.last_heartbeat,
        last_seen_online = GREATEST(known.last_seen_online, EXCLUDED.last_seen_online),
        agent_version = COALESCE(NULLIF(EXCLUDED.agent_version, ''), known.agent_version),
        session_id = COALESCE(NULLIF(EXCLUDED.session_id, ''), known.session_id),
        connection_info = json_build_object(
            'system_info', {_newest_of("system_info")}, 'status', {_newest_of("status")}),
        capabilities = CASE
            WHEN EXCLUDED.capabilities_at IS NOT NULL THEN EXCLUDED.capabilities
            -- Another session of the agent, which has not claimed receipts.
            WHEN EXCLUDED.session_id NOT IN ('', known.session_id)
                THEN known.capabilities - 'receipts'
            ELSE known.capabilities END,
        capabilities_at = COALESCE(EXCLUDED.capabilities_at, known.capabilities_at),
        clock_offset_seconds = COALESCE(EXCLUDED.clock_offset_seconds, known.clock_offset_seconds),
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
