"""Events that come by the thousand, written by several threads."""

import time
from collections.abc import Iterable
from functools import partial
from threading import Thread
from typing import Any

import pytest
from django.db import OperationalError, transaction

from tenants.audit.coalescing import CoalescedEvents
from tenants.audit.rules.coalescer import WINDOW_SECONDS
from tenants.audit.writer import PLATFORM, AuditEvent
from tenants.models import Action, AuditEntry

LOGIN = AuditEvent(Action.BROKER_LOGIN, None, PLATFORM)


def test_what_another_thread_writes_meanwhile_is_counted_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As at the end of a subscriber: one writes at once what the other has just added."""
    events: CoalescedEvents[str] = CoalescedEvents(others=lambda kind: "others")
    written: list[int] = []

    def write(rows: Iterable[AuditEvent]) -> None:
        counts = [each.count for each in rows]
        written.extend(counts)
        if counts == [2]:
            events.record([("kind", LOGIN)])
            events.flush(at_once=True)

    monkeypatch.setattr("tenants.audit.coalescing.record_events", write)
    events.record([("kind", LOGIN)] * 3)
    events.flush(at_once=True)
    events.flush(at_once=True)
    assert written == [1, 2, 1]


@pytest.mark.django_db
def test_what_was_counted_is_not_lost_with_a_later_transaction(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    events: CoalescedEvents[str] = CoalescedEvents(others=lambda kind: "others")
    events.record([("kind", LOGIN)] * 3)
    a_minute_later = time.monotonic() + WINDOW_SECONDS
    monkeypatch.setattr(time, "monotonic", lambda: a_minute_later)
    with transaction.atomic():
        events.record([("another", LOGIN)])
        transaction.set_rollback(True)
    events.flush()
    assert list(AuditEntry.objects.values_list("count", flat=True).order_by("pk")) == [1, 2]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The counts of the rows that were written."""
    counts: list[int] = []

    def write(rows: Iterable[AuditEvent]) -> None:
        counts.extend(each.count for each in rows)

    monkeypatch.setattr("tenants.audit.coalescing.record_events", write)
    return counts


def test_what_is_counted_just_as_another_thread_writes_is_written_later(
    written: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    events: CoalescedEvents[str] = CoalescedEvents(others=lambda kind: "others")
    for _ in range(2):
        events.record([("kind", LOGIN)])
    writer = Thread(target=partial(events.flush, at_once=True))
    count = events._coalescer.count

    def count_late(*args: Any) -> None:
        writer.start()
        # It may come as far as it can: a thread that is held up here finishes below.
        writer.join(0.2)
        count(*args)

    monkeypatch.setattr(events._coalescer, "count", count_late)
    events.record([("kind", LOGIN)])
    writer.join()
    events.flush(at_once=True)
    assert sum(written) == 3


def test_what_could_not_be_written_is_written_later(
    written: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    events: CoalescedEvents[str] = CoalescedEvents(others=lambda kind: "others")
    events.record([("kind", LOGIN)] * 3)

    def fail(rows: object) -> None:
        raise OperationalError

    with monkeypatch.context() as patch:
        patch.setattr("tenants.audit.coalescing.record_events", fail)
        with pytest.raises(OperationalError):
            events.flush(at_once=True)
    events.flush(at_once=True)
    assert written == [1, 2]
