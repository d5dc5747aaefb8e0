"""Write audit events that may come by the thousand as one row a minute with a count.

Web processes count them together in Redis; while Redis is away each counts its own.
"""

import time
from collections.abc import Collection, Sequence
from dataclasses import replace

import msgspec
import structlog
from django.db import Error as AnyDatabaseError

from tenants.access import shared_counts
from tenants.access.shared_counts import Away, Event, Report
from tenants.actions.later import Later
from tenants.audit.rules.coalescer import Coalescer
from tenants.audit.writer import Actor, AuditEvent, record_events
from tenants.models import ActorKind

log = structlog.get_logger(__name__)

NOBODY = Actor(ActorKind.UNKNOWN, "")
TOO_MANY = {"reason": "too many different ones in one minute"}
TOO_MANY_OF_ALL = {"reason": "too many different ones of everybody in one minute"}


def record_coalesced(
    event: AuditEvent,
    *,
    varying: Collection[str] = (),
    throttled: Sequence[str] = (),
    limit: int = 0,
) -> int:
    """Write the event at once if it is the first of its kind in a minute, or else count it.

    Events are of one kind where all but their `varying` fields are equal, some of device, target
    and address; a row has those of the newest. Return for how many seconds one of the `throttled`
    names is above the limit, 0 for none.
    """
    events = (_without(event, varying), _group_of(event), _all_of(event), event)
    texts = Event(*map(_text, events))
    try:
        counted = shared_counts.count(texts, throttled, limit=limit)
    except Away:
        if throttled:
            log.warning("wrong tokens are not throttled while Redis is away", names=throttled)
        _own_count.record(texts, event)
        return 0
    _write(counted.rows)
    if counted.held:
        _later.ask()
    return counted.wait


def flush(now: float | None = None) -> None:
    """Write the audit rows that are due by `now`, whichever process has counted the events."""
    try:
        counted = shared_counts.due(now)
    except Away:
        _later.ask()
        return
    _write(counted.rows)
    if counted.held:
        _later.ask()


def _write(rows: list[Report]) -> None:
    try:
        record_events(_event(row.telling, row.number) for row in rows)
    except AnyDatabaseError:
        shared_counts.put_back(rows)
        _later.ask()
        raise


class _OwnCount:
    """The events that this process counts by itself while Redis is away."""

    def __init__(self) -> None:
        self._coalescer: Coalescer[Event] = Coalescer(others=_group)
        self._later = Later("coalesced audit", self._flush, lambda: shared_counts.WINDOW_SECONDS)

    def record(self, texts: Event, event: AuditEvent) -> None:
        if self._coalescer.admit(texts._replace(telling=""), time.monotonic()):
            record_events([event])
        else:
            self._later.ask()

    def _flush(self) -> None:
        with self._coalescer.due(time.monotonic(), at_once=True) as counted:
            record_events(_event(texts.kind, count) for texts, count in counted)


def _group(texts: Event) -> Event:
    return texts._replace(kind=texts.group)


def _without(event: AuditEvent, varying: Collection[str]) -> AuditEvent:
    return replace(
        event,
        device=None if "device" in varying else event.device,
        target="" if "target" in varying else event.target,
        address="" if "address" in varying else event.address,
    )


def _group_of(event: AuditEvent) -> AuditEvent:
    """Return what stands for the surplus of a person, or of others about one tenant."""
    actor = event.actor
    if actor.kind != ActorKind.PERSON:
        actor = Actor(actor.kind, "")
    return AuditEvent(event.action, event.tenant, actor, via=event.via, detail=TOO_MANY)


def _all_of(event: AuditEvent) -> AuditEvent:
    return AuditEvent(event.action, None, NOBODY, detail=TOO_MANY_OF_ALL)


def _text(event: AuditEvent) -> str:
    return msgspec.json.encode(event).decode()


def _event(text: str, count: int) -> AuditEvent:
    return replace(msgspec.json.decode(text, type=AuditEvent), count=count)


_own_count = _OwnCount()
_later = Later("coalesced audit", flush, lambda: shared_counts.WINDOW_SECONDS)
