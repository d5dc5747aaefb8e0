"""The only writer of presence: connections that begin and end, and what follows for their devices.

Events come in any order and to several subscribers, and what the broker lists comes in between. So
each change locks its devices' rows (in the order of their keys), puts down what it knows of the
connections, and then settles each device by all of them; see `devices.presence`.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from devices import live, presence
from devices.actions.commands import wake_delivery
from devices.models import (
    BrokerSession,
    Command,
    CommandState,
    Connectivity,
    PresenceChange,
    Reporter,
)
from devices.presence import Change, Grace, Known, Presence, Sessions
from natsbridge.broker_events import ORDERED_ENDS, SERVER_SHUTDOWN

# The channel on which a subscriber hears that some device's going will be due.
PRESENCE_CHANNEL = "wegweiser_presence"

_SERVER_ENDS = [SERVER_SHUTDOWN, BrokerSession.SERVER_GONE]
# These say nothing of the device's link.
_NOT_ITS_OWN = [*_SERVER_ENDS, *ORDERED_ENDS]
_UNANNOUNCED = list(BrokerSession.UNANNOUNCED)
_SWEPT_AT_ONCE = 1000


class Session(NamedTuple):
    """One connection of a device, in the order of BrokerSession's columns."""

    server: str
    client: int
    device: UUID
    address: str
    started_at: datetime
    ended_at: datetime | None = None
    reason: str = ""


def grace() -> Grace:
    return Grace(
        usual=timedelta(seconds=settings.PRESENCE_GRACE_SECONDS),
        unstable=timedelta(seconds=settings.PRESENCE_UNSTABLE_GRACE_SECONDS),
        server=timedelta(seconds=settings.PRESENCE_SERVER_GRACE_SECONDS),
    )


@transaction.atomic
def record(sessions: Sequence[Session], *, by: Reporter) -> None:
    """Connections that began or ended. `by=RECONCILIATION`: they were listed as living, which
    undoes an end that nobody had announced."""
    devices = {session.device for session in sessions}
    known = _locked(devices)
    began = {(session.server, session.client): session for session in sessions}
    ended = {key: session for key, session in began.items() if session.ended_at}
    for session in sessions:
        if session.ended_at:
            ended[session.server, session.client] = session
    _begin(list(began.values()), reopen=by is Reporter.RECONCILIATION)
    _end(list(ended.values()))
    _settle(known, by=by)


@transaction.atomic
def end_unlisted(sessions: Iterable[BrokerSession], *, at: datetime, reason: str) -> int:
    """The broker does not list them any more; one that has ended meanwhile is left as it is."""
    rows = list(sessions)
    known = _locked({row.device_id for row in rows})
    found = BrokerSession.objects.filter(pk__in=[row.pk for row in rows], ended_at=None)
    count = found.update(ended_at=at, end_reason=reason)
    _settle(known, by=Reporter.RECONCILIATION)
    return count


def end_denied(connections: Collection[tuple[str, int]]) -> int:
    """Of these (server and client) the broker said one by one that it has them no more."""
    servers, clients = {server for server, _ in connections}, {client for _, client in connections}
    rows = BrokerSession.objects.filter(server_id__in=servers, client_id__in=clients)
    denied = [row for row in rows if (row.server_id, row.client_id) in connections]
    return end_unlisted(denied, at=timezone.now(), reason=BrokerSession.UNLISTED)


@transaction.atomic
def expect_no_more(devices: Iterable[UUID], *, at: datetime) -> None:
    """Thought to be online, without any connection: unless they come or speak, they are gone.
    `at` is when the broker was asked."""
    known = _locked(devices)
    sessions = _sessions_of(known)
    due = timezone.now() + grace().usual
    lost = [
        device
        for device, row in known.items()
        if sessions.get(device, Sessions()).live_since is None
        and row.presence is Presence.ONLINE
        and row.offline_due_at is None
        and row.last_seen is not None
        and row.last_seen < at
    ]
    Connectivity.objects.filter(device__in=lost).update(offline_due_at=due)


@transaction.atomic
def postpone() -> None:
    """The broker was away: whoever its end has cut off gets the time to come back from now on."""
    until = timezone.now() + grace().server
    with connection.cursor() as cursor:
        cursor.execute(_POSTPONE, [until, _SERVER_ENDS])


@transaction.atomic
def sweep() -> datetime | None:
    """Devices whose going is due are gone. Returns when the next is due, None if none is."""
    now, allowed = timezone.now(), grace()
    rows = Connectivity.objects.filter(offline_due_at__lte=now).order_by("device_id")
    locked = rows.select_for_update(skip_locked=True).defer("connection_info", "capabilities")
    known = {row.device_id: row.known for row in locked[:_SWEPT_AT_ONCE]}
    if known:
        sessions = _sessions_of(known)
        outcomes = {
            device: presence.sweep(row, sessions.get(device, Sessions()), allowed)
            for device, row in known.items()
        }
        _write(known, outcomes)
    waiting = Connectivity.objects.exclude(offline_due_at=None).order_by("offline_due_at")
    return waiting.values_list("offline_due_at", flat=True).first()


def _locked(devices: Iterable[UUID]) -> dict[UUID, Known]:
    """The devices that still exist, their rows made where there are none and locked."""
    ordered = sorted(devices)
    with connection.cursor() as cursor:
        cursor.execute(_ENSURE_ROWS, [ordered])
    rows = Connectivity.objects.filter(device__in=ordered).order_by("device_id")
    locked = rows.select_for_update().defer("connection_info", "capabilities")
    return {row.device_id: row.known for row in locked}


def _begin(sessions: Sequence[Session], *, reopen: bool) -> None:
    with connection.cursor() as cursor:
        columns = _columns(sorted(sessions)) if sessions else [[] for _ in Session._fields]
        cursor.execute(_BEGIN, [*columns[:5], reopen, _UNANNOUNCED])


def _end(sessions: Sequence[Session]) -> None:
    if sessions:
        with connection.cursor() as cursor:
            cursor.execute(_END, [*_columns(sorted(sessions)), _UNANNOUNCED])


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _settle(known: Mapping[UUID, Known], *, by: Reporter) -> None:
    sessions, allowed, now = _sessions_of(known), grace(), timezone.now()
    outcomes = {
        device: presence.settle(row, sessions[device], allowed, now, by=by)
        for device, row in known.items()
        if device in sessions
    }
    _write(known, outcomes)


def _sessions_of(devices: Iterable[UUID]) -> dict[UUID, Sessions]:
    recent = timezone.now() - presence.UNSTABLE_WINDOW
    with connection.cursor() as cursor:
        cursor.execute(_SESSIONS, [recent, _NOT_ITS_OWN, list(devices)])
        return {
            device: Sessions(live_since, newest, ended_at, reason, reason in _SERVER_ENDS, ends)
            for device, live_since, newest, ended_at, reason, ends in cursor.fetchall()
        }


def _write(
    before: Mapping[UUID, Known], outcomes: Mapping[UUID, tuple[Known, list[Change]]]
) -> None:
    changed = {device: after for device, (after, _) in outcomes.items() if after != before[device]}
    if not changed:
        return
    rows = [
        (
            device,
            after.presence or "",
            after.at,
            after.by or "",
            after.last_seen,
            after.offline_due_at,
            after.unstable_until,
        )
        for device, after in sorted(changed.items())
    ]
    with connection.cursor() as cursor:
        cursor.execute(_UPDATE, _columns(rows))
        if any(after.offline_due_at for after in changed.values()):
            cursor.execute("SELECT pg_notify(%s, '')", [PRESENCE_CHANNEL])
    PresenceChange.objects.bulk_create(
        PresenceChange(
            device_id=device,
            presence=change.presence,
            at=change.at,
            reported_by=change.by,
            reason=change.reason,
        )
        for device, (_, changes) in outcomes.items()
        for change in changes
    )
    there = [device for device, after in changed.items() if after.presence is Presence.ONLINE]
    if Command.objects.filter(device__in=there, state=CommandState.QUEUED).exists():
        wake_delivery()
    transaction.on_commit(lambda: live.push_presence(changed))


_ENSURE_ROWS = """
    INSERT INTO devices_connectivity (
        device_id, connection_type, agent_version, session_id, connection_info, capabilities)
    SELECT uuid, 'nats', '', '', '{}', '{}' FROM devices_device WHERE uuid = ANY(%s)
    ORDER BY uuid
    ON CONFLICT DO NOTHING
"""

_BEGIN = """
    INSERT INTO devices_brokersession AS known (
        server_id, client_id, device_id, address, started_at, end_reason)
    SELECT began.*, ''
    FROM unnest(%s::text[], %s::bigint[], %s::uuid[], %s::text[], %s::timestamptz[])
        AS began (server, client, device, address, at)
    JOIN devices_connectivity ON device_id = device
    ON CONFLICT (server_id, client_id) DO UPDATE SET ended_at = NULL, end_reason = ''
    WHERE %s AND known.end_reason = ANY(%s)
"""

_END = """
    UPDATE devices_brokersession AS known SET ended_at = ended.at, end_reason = ended.reason
    FROM unnest(%s::text[], %s::bigint[], %s::uuid[], %s::text[], %s::timestamptz[],
        %s::timestamptz[], %s::text[]) AS ended (server, client, device, address, start, at, reason)
    WHERE known.server_id = ended.server AND known.client_id = ended.client
        AND (known.ended_at IS NULL OR known.end_reason = ANY(%s))
"""

_SESSIONS = """
    SELECT device_id,
        min(started_at) FILTER (WHERE ended_at IS NULL),
        max(started_at),
        max(ended_at),
        COALESCE((array_agg(end_reason ORDER BY ended_at DESC)
            FILTER (WHERE ended_at IS NOT NULL))[1], ''),
        count(*) FILTER (WHERE ended_at > %s AND NOT end_reason = ANY(%s))
    FROM devices_brokersession WHERE device_id = ANY(%s)
    GROUP BY device_id
"""

_UPDATE = """
    UPDATE devices_connectivity AS known SET
        presence = now.presence, presence_at = now.at, presence_by = now.by,
        last_seen_online = GREATEST(known.last_seen_online, now.seen),
        offline_due_at = now.due, unstable_until = now.unstable, connection_type = 'nats'
    FROM unnest(%s::uuid[], %s::text[], %s::timestamptz[], %s::text[], %s::timestamptz[],
        %s::timestamptz[], %s::timestamptz[])
        AS now (device, presence, at, by, seen, due, unstable)
    WHERE known.device_id = now.device
"""

_POSTPONE = """
    UPDATE devices_connectivity AS known SET offline_due_at = %s
    WHERE offline_due_at IS NOT NULL AND (
        SELECT end_reason FROM devices_brokersession AS last
        WHERE last.device_id = known.device_id AND ended_at IS NOT NULL
        ORDER BY ended_at DESC LIMIT 1
    ) = ANY(%s)
"""
