"""Compare the stored connections with the broker's lists.

A list is out of date when it arrives, and events may overtake it or be overtaken. So connections
that began after it are left alone, and one that it lacks is ended only if a second list lacks it
too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Exists, OuterRef

from devices.models import BrokerSession, Connectivity, Presence, Reporter
from devices.presence import sessions
from devices.presence.coverage import silence_counts_since
from devices.presence.events import device_sessions, tenancy_of
from natsbridge.postgres import locks
from natsbridge.postgres.locks import Lock
from natsbridge.protocol.connection_lists import ConnectionList

_BATCH = 500


@dataclass(frozen=True)
class Suspects:
    """Stored connections that a list lacks; `gone` are those of servers that did not answer."""

    missing: frozenset[int] = frozenset()
    gone: frozenset[int] = frozenset()


def take_turn() -> bool:
    """Return whether it is this subscriber's turn; then call `release_turn` in the same thread."""
    return locks.take(Lock.PRESENCE_LIST)


def release_turn() -> None:
    locks.release(Lock.PRESENCE_LIST)


def take_in(parts: Sequence[ConnectionList]) -> Suspects:
    """Record the listed connections as open. Return the stored open ones that are not listed."""
    listed = {(each.server, each.client): each for part in parts for each in part.connections}
    for start in range(0, len(listed), _BATCH):
        batch = list(listed.values())[start : start + _BATCH]
        tenancy = tenancy_of(each.user for each in batch)
        sessions.record(device_sessions(batch, tenancy), by=Reporter.RECONCILIATION)
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
    """End connections that both lists lack, and return how many. `parts` are the second list."""
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
    """Begin the grace of devices that are online by a heartbeat, have no connection and are silent.

    Without silence they stay online: heartbeats may come through servers that are not listed here.
    """
    silent_since = at - timedelta(seconds=settings.ONLINE_SECONDS)
    if not silence_counts_since(silent_since):
        return
    connected = BrokerSession.objects.filter(device=OuterRef("device"), ended_at=None)
    lost = Connectivity.objects.filter(
        ~Exists(connected),
        presence=Presence.ONLINE,
        offline_due_at=None,
        last_seen_online__lt=silent_since,
    )
    sessions.expect_no_more(list(lost.values_list("device", flat=True)[:_BATCH]), at=at)
