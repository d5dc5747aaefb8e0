"""Events that come by the thousand, written by several threads."""

import time
from collections.abc import Iterable

import pytest
from django.db import transaction

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
