"""What the broker lists as connected, held against what is thought to be.

A list is a moment of the past when it arrives, and events overtake it both ways: so what began
after it is left alone, and what it lacks counts only where a second list lacks it as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Exists, OuterRef

from devices.models import BrokerSession, Connectivity, Presence, Reporter
from devices.presence import sessions
from devices.presence.events import device_sessions, owners_of
from natsbridge.postgres import locks
from natsbridge.postgres.locks import Lock
from natsbridge.protocol.connection_lists import ConnectionList

_BATCH = 500


@dataclass(frozen=True)
class Suspects:
    """Connections that a list lacks, by server; `gone` are those of servers that are away."""

    missing: frozenset[int] = frozenset()
    gone: frozenset[int] = frozenset()


def begin() -> bool:
    """Whether it is this subscriber's turn; if so, `end` must follow in the same thread."""
    return locks.take(Lock.PRESENCE_LIST)


def end() -> None:
    locks.release(Lock.PRESENCE_LIST)


def take_in(parts: Sequence[ConnectionList]) -> Suspects:
    """What is listed lives. Returns what is thought to live and is not listed."""
    listed = {(each.server, each.client): each for part in parts for each in part.connections}
    for start in range(0, len(listed), _BATCH):
        batch = list(listed.values())[start : start + _BATCH]
        owners = owners_of(each.user for each in batch)
        sessions.record(device_sessions(batch, owners), by=Reporter.RECONCILIATION)
    clients = {(part.server, client) for part in parts for client in part.clients}
    as_of: dict[str, datetime] = {}
    for part in parts:
        as_of[part.server] = min(part.now, as_of.get(part.server, part.now))
    missing, gone = set(), set()
    live = BrokerSession.objects.filter(ended_at=None)
    for pk, server, client, started_at in live.values_list(
        "pk", "server_id", "client_id", "started_at"
    ).iterator():
        if server not in as_of:
            gone.add(pk)
        elif (server, client) not in clients and started_at < as_of[server]:
            missing.add(pk)
    return Suspects(frozenset(missing), frozenset(gone))


def conclude(first: Suspects, second: Suspects, parts: Sequence[ConnectionList]) -> int:
    """Ends what both lists lack; returns how many. `parts` are the second list."""
    at = max(part.now for part in parts)
    count = 0
    for ended, reason in (
        (first.missing & second.missing, BrokerSession.UNLISTED),
        (first.gone & second.gone, BrokerSession.SERVER_GONE),
    ):
        for rows in _batches(ended):
            count += sessions.end_unlisted(rows, at=at, reason=reason)
    _expect_no_more(at)
    return count


def _batches(keys: frozenset[int]) -> list[list[BrokerSession]]:
    ordered = sorted(keys)
    return [
        list(BrokerSession.objects.filter(pk__in=ordered[start : start + _BATCH]))
        for start in range(0, len(ordered), _BATCH)
    ]


def _expect_no_more(at: datetime) -> None:
    """Those that a heartbeat has called online, and that have been silent since. Heartbeats come
    by other ways too, such as a server this one does not know: so silence must come to it."""
    silent_since = at - timedelta(seconds=settings.ONLINE_SECONDS)
    connected = BrokerSession.objects.filter(device=OuterRef("device"), ended_at=None)
    lost = Connectivity.objects.filter(
        ~Exists(connected),
        presence=Presence.ONLINE,
        offline_due_at=None,
        last_seen_online__lt=silent_since,
    )
    sessions.expect_no_more(list(lost.values_list("device", flat=True)[:_BATCH]), at=at)
