"""Events of the audit that come by the thousand: few rows with counts, and none left out."""

import time
from collections.abc import Callable, Hashable, Iterable
from dataclasses import replace
from threading import Lock
from typing import Generic, NamedTuple, TypeVar
from uuid import UUID

from tenants.audit.rules.coalescer import Coalescer
from tenants.audit.writer import AuditEvent, record_events
from tenants.models import Action

Key = TypeVar("Key", bound=Hashable)


class CoalescedEvents(Generic[Key]):
    """The first event of a kind is written at once; those that follow are one row a minute, the
    newest of them with their count. Call `flush` now and then, and at the end. Threads may share
    it."""

    def __init__(self, *, others: Callable[[Key], Key]) -> None:
        self._coalescer = Coalescer(others=others)
        self._newest: dict[Key, AuditEvent] = {}
        self._lock = Lock()

    def record(self, events: Iterable[tuple[Key, AuditEvent]]) -> None:
        """Write the first of each kind and count the rest, whatever becomes of the caller's
        transaction."""
        self.stage(events)()

    def stage(self, events: Iterable[tuple[Key, AuditEvent]]) -> Callable[[], None]:
        """Write the first of each kind in the caller's transaction. Return what counts the rest, to
        be called once that is committed: a transaction that is rolled back and done again counts
        nothing twice."""
        found = list(events)
        keys = [key for key, _ in found]
        planned = self._coalescer.plan(keys)
        record_events(
            event for (_, event), kind in zip(found, planned, strict=True) if kind is None
        )

        def count() -> None:
            with self._lock:
                for (_, event), kind in zip(found, planned, strict=True):
                    if kind is not None:
                        self._newest[kind] = event
                self._coalescer.count(keys, planned, time.monotonic())

        return count

    def flush(self, *, at_once: bool = False) -> None:
        """Write what has been counted, when it is time."""
        with self._coalescer.due(time.monotonic(), at_once=at_once) as counted:
            with self._lock:
                newest = {kind: self._newest[kind] for kind, _ in counted}
            record_events(replace(newest[kind], count=count) for kind, count in counted)
        with self._lock:
            for kind, event in newest.items():
                # One that came meanwhile is of the next minute, or another thread has written it.
                if self._newest.get(kind) is event:
                    del self._newest[kind]


class Connecting(NamedTuple):
    """A kind of login or disconnection: whose, and with what from where."""

    action: Action
    tenant: UUID | None
    actor: str
    address: str
    credential: str


def others_of(kind: Connecting) -> Connecting:
    """Those of the same actor that are too many to be told one by one."""
    return kind._replace(address="", credential="")
