"""Record connections that begin and end, and what follows for the presence of their devices.

Only this module and `heartbeats` write presence; a heartbeat can only bring a device back online.

Events arrive in any order at several subscribers, and the broker's lists come in between. So each
change locks its devices' rows (in the order of their keys), stores what it knows of the
connections, and then decides each device's presence by all of them; see `devices.presence.rules`.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from devices.commands.issue import wake_delivery_to
from devices.live import frames
from devices.models import (
    BrokerSession,
    Connectivity,
    PresenceChange,
    Reporter,
)
from devices.presence import rules as presence
from devices.presence import session_statements as statements
from devices.presence.rules import Change, Grace, Known, Presence, Sessions
from natsbridge.postgres.wakeups import notify
from natsbridge.protocol.broker_events import ORDERED_ENDS, SERVER_SHUTDOWN

# The channel that tells subscribers that some device's grace has begun.
PRESENCE_CHANNEL = "wegweiser_presence"
# The channel that tells subscribers that some device has too many connections.
CONNECTIONS_CHANNEL = "wegweiser_connections"
# How many ended connections of a device are kept, so that a flood of them cannot fill the table:
# more than make its link unstable, since events of one connection may arrive in the wrong order.
ENDED_KEPT = 20

_SERVER_ENDS = [SERVER_SHUTDOWN, BrokerSession.SERVER_GONE]
# Ends for these reasons do not make the device's link unstable.
_NOT_ITS_OWN = [*_SERVER_ENDS, *ORDERED_ENDS]
_UNANNOUNCED = list(BrokerSession.UNANNOUNCED)
_SWEPT_AT_ONCE = 1000


class Session(NamedTuple):
    """One connection of a device; its fields are in the order of BrokerSession's columns."""

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
    """Record connections that began or ended.

    With `by=RECONCILIATION` the broker's list names them as open, which undoes an end that the
    broker had not announced.
    """
    devices = {session.device for session in sessions}
    known = _locked(devices)
    began = {(session.server, session.client): session for session in sessions}
    ended = {key: session for key, session in began.items() if session.ended_at}
    for session in sessions:
        if session.ended_at:
            ended[session.server, session.client] = session
    arrived = {(each.server, each.client) for each in sessions if each.ended_at is None}
    passing = _passing([each for key, each in ended.items() if key in arrived], known)
    lasting = [each for key, each in began.items() if key not in passing]
    _begin_sessions(lasting, reopen=by is Reporter.RECONCILIATION)
    _end_sessions(list(ended.values()))
    _forget({session.device for session in ended.values()})
    _update_presence(known, by=by)


def _passing(sessions: Sequence[Session], known: Mapping[UUID, Known]) -> set[tuple[str, int]]:
    """Return which of the connections that began and ended in one batch need no row.

    Rows are kept for the newest of each device, and for as many as it takes to find its link
    unstable.
    """
    now, kept = timezone.now(), Counter[UUID]()
    passing = set()
    for each in sorted(sessions, key=lambda each: each.ended_at or now, reverse=True):
        unstable_until = known[each.device].unstable_until if each.device in known else None
        enough = 1 if unstable_until and unstable_until > now else presence.UNSTABLE_ENDS
        kept[each.device] += 1
        if kept[each.device] > enough:
            passing.add((each.server, each.client))
    return passing


def _forget(devices: Iterable[UUID]) -> None:
    ordered = sorted(devices)
    if ordered:
        with connection.cursor() as cursor:
            cursor.execute(statements.FORGET, [ordered, ENDED_KEPT])


@transaction.atomic
def end_unlisted(sessions: Iterable[BrokerSession], *, at: datetime, reason: str) -> int:
    """End connections that the broker does not list any more, and return how many; leave those that
    have ended meanwhile."""
    rows = list(sessions)
    known = _locked({row.device_id for row in rows})
    found = BrokerSession.objects.filter(pk__in=[row.pk for row in rows], ended_at=None)
    count = found.update(ended_at=at, end_reason=reason)
    _update_presence(known, by=Reporter.RECONCILIATION)
    return count


def end_denied(connections: Collection[tuple[str, int]]) -> int:
    """End connections (server and client) of which the broker, asked for each, had no record."""
    servers, clients = {server for server, _ in connections}, {client for _, client in connections}
    rows = BrokerSession.objects.filter(server_id__in=servers, client_id__in=clients)
    denied = [row for row in rows if (row.server_id, row.client_id) in connections]
    return end_unlisted(denied, at=timezone.now(), reason=BrokerSession.UNLISTED)


@transaction.atomic
def expect_no_more(devices: Iterable[UUID], *, at: datetime) -> None:
    """Begin the grace of devices that are stored as online and have no connection.

    `at` is when the broker was asked; a device heard since then is left alone.
    """
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
    """Restart the grace of devices that were cut off when a server went away."""
    until = timezone.now() + grace().server
    with connection.cursor() as cursor:
        cursor.execute(statements.POSTPONE, [until, _SERVER_ENDS])


@transaction.atomic
def sweep() -> datetime | None:
    """Mark devices offline whose grace is over. Return when the next grace ends, or None."""
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
    """Lock the rows of the devices that still exist, creating missing ones, and return them."""
    ordered = sorted(devices)
    with connection.cursor() as cursor:
        cursor.execute(statements.ENSURE_ROWS, [ordered])
    rows = Connectivity.objects.filter(device__in=ordered).order_by("device_id")
    locked = rows.select_for_update().defer("connection_info", "capabilities")
    return {row.device_id: row.known for row in locked}


def _begin_sessions(sessions: Sequence[Session], *, reopen: bool) -> None:
    with connection.cursor() as cursor:
        columns = _columns(sorted(sessions)) if sessions else [[] for _ in Session._fields]
        cursor.execute(statements.BEGIN, [*columns[:5], reopen, ENDED_KEPT, reopen, _UNANNOUNCED])


def _end_sessions(sessions: Sequence[Session]) -> None:
    if sessions:
        with connection.cursor() as cursor:
            cursor.execute(statements.END, [*_columns(sorted(sessions)), _UNANNOUNCED])


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _update_presence(known: Mapping[UUID, Known], *, by: Reporter) -> None:
    sessions, allowed, now = _sessions_of(known), grace(), timezone.now()
    outcomes = {
        device: presence.after_sessions(row, sessions[device], allowed, now, by=by)
        for device, row in known.items()
        if device in sessions
    }
    _write(known, outcomes)
    if any(each.live > settings.DEVICE_MAX_CONNECTIONS for each in sessions.values()):
        notify(CONNECTIONS_CHANNEL)


def _sessions_of(devices: Iterable[UUID]) -> dict[UUID, Sessions]:
    recent = timezone.now() - presence.UNSTABLE_WINDOW
    with connection.cursor() as cursor:
        cursor.execute(statements.SESSIONS, [recent, _NOT_ITS_OWN, list(devices)])
        return {
            device: Sessions(since, newest, ended_at, reason, reason in _SERVER_ENDS, ends, live)
            for device, since, newest, ended_at, reason, ends, live in cursor.fetchall()
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
        cursor.execute(statements.UPDATE, _columns(rows))
    if any(after.offline_due_at for after in changed.values()):
        notify(PRESENCE_CHANNEL)
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
    wake_delivery_to(
        device for device, after in changed.items() if after.presence is Presence.ONLINE
    )
    transaction.on_commit(lambda: frames.push_presence(changed))
