"""The run that removes what is old: in batches, one kind after the other, once a day."""

import asyncio
import re
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import cast

import pytest
from django.contrib.sessions.models import Session
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.module_loading import autodiscover_modules

from natsbridge.client.connection import Connection
from natsbridge.errors import AlreadyPruning
from natsbridge.models import Pruning
from natsbridge.postgres.wakeups import Wakeups
from natsbridge.registry import registry
from natsbridge.retention import engine as retention
from natsbridge.retention.engine import Batches, Kind, Outcome
from natsbridge.runtime import Runtime
from natsbridge.subscriber.periodic import run_periodic
from tests.support.broker import eventually
from tests.support.waiting import SAFETY_NET

NOW = timezone.now()


def old_sessions(now: datetime) -> QuerySet[Session]:
    return Session.objects.filter(expire_date__lt=now)


SESSIONS = Kind("sessions", old_sessions)


def make_sessions(number: int, age: timedelta = timedelta(days=1)) -> None:
    Session.objects.bulk_create(
        Session(session_key=f"{number}-{each:06}", expire_date=NOW - age) for each in range(number)
    )


def failing(now: datetime) -> Batches:
    yield 3
    raise ValueError("the disk is full")


def test_a_large_table_is_pruned_in_batches_while_somebody_holds_a_row_of_it(
    transactional_db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "BATCH_ROWS", 100)
    make_sessions(1000)
    make_sessions(5, age=-timedelta(days=1))
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with transaction.atomic():
            Session.objects.filter(session_key="1000-000500").update(session_data="in use")
            held.set()
            release.wait(SAFETY_NET)
        connection.close()

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert held.wait(SAFETY_NET)
        batches = list(SESSIONS.remove(NOW))
        assert batches == [100] * 9 + [99]
        # What began meanwhile is not waited for, and not touched.
        assert Session.objects.filter(expire_date__lt=NOW).count() == 1
    finally:
        release.set()
        holder.join()
    assert list(SESSIONS.remove(NOW)) == [1]
    assert Session.objects.count() == 5


def test_a_kind_that_fails_is_named_and_the_rest_are_pruned(db: None) -> None:
    make_sessions(2)
    broken = Kind("broken", old_sessions, failing)

    outcomes = retention.prune([broken, SESSIONS])

    problem = "ValueError: the disk is full"
    assert outcomes == [Outcome("broken", 3, problem), Outcome("sessions", 2)]
    last = retention.last_run()
    assert last is not None
    assert (last.rows, last.problems) == (5, {"broken": problem})


def test_a_database_error_in_one_kind_leaves_the_connection_fit_for_the_next(
    transactional_db: None,
) -> None:
    def killed(now: datetime) -> Batches:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        yield 0

    make_sessions(2)
    outcomes = retention.prune([Kind("killed", old_sessions, killed), SESSIONS])
    assert "terminating connection" in outcomes[0].problem
    assert outcomes[1] == Outcome("sessions", 2)


def test_a_run_that_was_stopped_does_not_count(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH_ROWS", 2)
    make_sessions(5)
    assert retention.prune_if_due([SESSIONS], stop=lambda: True) == [Outcome("sessions", 2)]
    assert retention.is_due()
    assert retention.prune_if_due([SESSIONS]) == [Outcome("sessions", 3)]
    assert not retention.is_due()


@pytest.mark.parametrize(
    ("last", "now", "due"),
    [
        (None, "2026-03-02 12:00", True),
        # A restart does not run it again.
        ("2026-03-02 03:00", "2026-03-02 23:59", False),
        ("2026-03-02 03:10", "2026-03-03 02:59", False),
        ("2026-03-02 03:10", "2026-03-03 03:00", True),
        # A day that was missed is made up at once, and the next one is at its usual hour.
        ("2026-03-01 03:00", "2026-03-02 14:00", True),
        ("2026-03-02 14:00", "2026-03-03 03:00", True),
        ("2026-02-20 03:00", "2026-03-02 01:00", True),
    ],
)
def test_it_is_due_once_a_day(
    db: None, monkeypatch: pytest.MonkeyPatch, last: str | None, now: str, due: bool
) -> None:
    def moment(text: str) -> datetime:
        return datetime.strptime(text, "%Y-%m-%d %H:%M").replace(tzinfo=UTC)

    if last:
        Pruning.objects.create(began_at=moment(last), finished_at=moment(last))
    monkeypatch.setattr(timezone, "now", lambda: moment(now))
    assert retention.is_due() is due


@pytest.fixture
def another_is_pruning(transactional_db: None) -> Iterator[None]:
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with retention._pruning_lock():
            held.set()
            release.wait(SAFETY_NET)
        connection.close()

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(SAFETY_NET)
    yield
    release.set()
    holder.join()


@pytest.mark.usefixtures("another_is_pruning")
def test_one_process_at_a_time_prunes() -> None:
    make_sessions(1)
    assert retention.prune_if_due([SESSIONS]) == []
    with pytest.raises(AlreadyPruning):
        retention.prune([SESSIONS])
    with pytest.raises(CommandError, match="Another process"):
        call_command("prune")
    assert Session.objects.count() == 1


def test_the_command_says_what_goes_and_a_dry_run_removes_nothing(db: None) -> None:
    make_sessions(3)
    said = StringIO()
    call_command("prune", "--dry-run", stdout=said)
    assert re.search(r"^sessions +3$", said.getvalue(), re.MULTILINE)
    assert "3 rows would be deleted.\n" in said.getvalue()
    assert (Session.objects.count(), retention.last_run()) == (3, None)

    call_command("prune", stdout=said)
    assert "3 rows deleted.\n" in said.getvalue()
    assert Session.objects.count() == 0
    assert not retention.is_due()


@pytest.fixture
def three_sessions(transactional_db: None) -> None:
    make_sessions(3)


@pytest.mark.usefixtures("three_sessions")
async def test_a_subscriber_does_it_by_itself_and_says_so() -> None:
    autodiscover_modules("handlers")
    counters: Counter[str] = Counter()
    # Of the connection to the broker it has no need.
    runtime = Runtime(cast(Connection, None), Wakeups(()), "here", counters)

    job = replace(registry.periodics["pruning"], first=0.0)
    task = asyncio.ensure_future(run_periodic(runtime, job))
    assert await eventually(lambda: "pruning" in runtime.gauges)
    runtime.stopping.set()
    await asyncio.wait_for(task, SAFETY_NET)

    assert counters["pruned.sessions"] == 3
    assert runtime.gauges["pruning"]()["rows"] == 3
