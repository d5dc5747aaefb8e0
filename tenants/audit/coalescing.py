"""Coalesce events that come by the thousand into a few audit rows with counts."""

import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from threading import Lock
from typing import Generic, NamedTuple, TypeVar
from uuid import UUID

from tenants.audit.rules.coalescer import Coalescer
from tenants.audit.writer import AuditEvent, record_events
from tenants.models import Action

Key = TypeVar("Key", bound=Hashable)


class CoalescedEvents(Generic[Key]):
    """Writes the first event of a kind at once, and then one row a minute.

    That row is the newest event with the count of all. Call `flush` now and then, and at the end.
    Threads may share an instance.
    """

    def __init__(self, *, others: Callable[[Key], Key]) -> None:
        self._coalescer = Coalescer(others=others)
        self._newest: dict[Key, AuditEvent] = {}
        self._lock = Lock()

    def record(self, events: Iterable[tuple[Key, AuditEvent]]) -> None:
        """Write the first of each kind, and count the rest even after a rollback."""
        self.stage(events)()

    def stage(self, events: Iterable[tuple[Key, AuditEvent]]) -> Callable[[], None]:
        """Write the first of each kind in the caller's transaction, and return a function.

        Call it after the commit to count the rest: so a transaction that is rolled back and done
        again counts nothing twice.
        """
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
        with ExitStack() as stack:
            # Together, since another thread that counts changes both.
            with self._lock:
                due = self._coalescer.due(time.monotonic(), at_once=at_once)
                counted = stack.enter_context(due)
                newest = {kind: self._newest.pop(kind) for kind, _ in counted}
            stack.push(partial(self._put_back, newest))
            record_events(replace(newest[kind], count=count) for kind, count in counted)

    def _put_back(self, newest: Mapping[Key, AuditEvent], error: object, *_: object) -> None:
        """Keep what could not be written, unless there is a newer event of the kind."""
        if error:
            with self._lock:
                self._newest = {**newest, **self._newest}


class Connecting(NamedTuple):
    """A kind of login or disconnection: whose it is, from where, and by which credential."""

    action: Action
    tenant: UUID | None
    actor: str
    address: str
    credential: str


def others_of(kind: Connecting) -> Connecting:
    """Return what stands for an actor's further events, which are too many to list."""
    return kind._replace(address="", credential="")
