"""Dead letters: published to the broker, mirrored, replayed, seen by operators."""

import io
import os
import signal
from datetime import timedelta
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone
from pytest_django.fixtures import Settings

from devices.models import Command, CommandState, RealtimeData
from devices.presence.heard import heard
from devices.telemetry import intake as live_metrics
from devices.telemetry import ring_buffers
from devices.telemetry.tenancy import AccountCache
from natsbridge.dead_letters import store
from natsbridge.models import DeadLetter, SubscriberStatus
from natsbridge.subscriber import intake, rejections, status
from natsbridge.subscriber.breaker import DATABASE
from tenants.models import Group, User
from tests.support.people import Enrolled, enrol
from tests.support.system import Agent, System, eventually

State = DeadLetter.State


@pytest.fixture
def enrolled(system: System, group_a: Group) -> Enrolled:
    return enrol(group_a, "anna-laptop")


@pytest.fixture
def agent(system: System, enrolled: Enrolled) -> Agent:
    return system.running_agent(enrolled)


def dead_letters(*arguments: object) -> str:
    out = io.StringIO()
    call_command("dead_letters", *map(str, arguments), stdout=out, stderr=out)
    return out.getvalue()


def test_a_message_that_came_too_early_is_replayed_with_its_own_time(
    agent: Agent, enrolled: Enrolled, alice: User
) -> None:
    command = uuid4()
    agent.answer(command, result="pong")
    row = eventually(DeadLetter.objects.filter(reason="unknown_command").first)
    assert (row.device, row.tenant, row.kind) == (agent.device, agent.tenant, "response")
    Command.objects.create(
        uuid=command,
        device=enrolled.device,
        command="ping",
        created_by=alice,
        deadline=timezone.now() + timedelta(hours=1),
        state=CommandState.SENT,
    )
    assert "unknown_command: 1" in dead_letters("list")
    assert "pong" in dead_letters("show", row.pk)
    assert dead_letters("replay", "--reason", "unknown_command") == "1 to replay\n"
    eventually(DeadLetter.objects.filter(state=State.REPLAYED).exists)
    answered = Command.objects.get(uuid=command)
    assert (answered.state, answered.result) == (CommandState.SUCCEEDED, "pong")
    assert answered.finished_at == row.received_at
    assert dead_letters("replay", row.pk) == "0 to replay\n"


def test_a_replay_of_what_is_still_bad_stays_a_dead_letter(agent: Agent) -> None:
    agent.report("monitoring", b"{no json")
    agent.stream_metric("cpu_percent", b"{neither")
    eventually(lambda: DeadLetter.objects.count() == 2)
    dead_letters("replay", "--all")
    eventually(lambda: DeadLetter.objects.filter(attempts=2).count() == 2)
    assert store.counts_by_reason() == {"malformed_json": 2}
    assert dead_letters("discard", "--all") == "2 discarded\n"
    assert dead_letters("list") == "No dead letters.\n"


def test_replaying_or_discarding_everything_has_to_be_said(db: None) -> None:
    for what in ("replay", "discard"):
        with pytest.raises(CommandError, match="--all"):
            dead_letters(what)


def test_an_unknown_dead_letter_is_named(db: None) -> None:
    assert dead_letters("list") == "No dead letters.\n"
    for what in ("show", "replay", "discard"):
        with pytest.raises(CommandError, match="There is no dead letter 41, 42"):
            dead_letters(what, 42, 41)


def test_without_the_dead_letter_queue_a_message_stays_where_it_is(
    system: System, agent: Agent, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rejections, "UNPUBLISHED_SECONDS", 0.2)
    monkeypatch.setattr(status, "BEAT_SECONDS", 0.2)
    settings.DLQ_MAX_BYTES = 2**62  # so it cannot be made again
    system.as_platform_owner(lambda js: js.delete_stream("DLQ"))
    agent.report("monitoring", b"{no json")
    eventually(lambda: counters().get("ingest.dead_letters_unpublished", 0) > 1)
    assert "dead_letters.malformed_json" not in counters()
    settings.DLQ_MAX_BYTES = 1024**2
    eventually(lambda: DeadLetter.objects.count() == 1)
    eventually(lambda: counters().get("dead_letters.malformed_json") == 1)


def counters() -> dict[str, int]:
    row = SubscriberStatus.objects.filter(details__has_key="counters").first()
    return row.details["counters"] if row else {}


def test_postgres_that_hangs_stops_no_live_metric_and_loses_no_message(
    agent: Agent, enrolled: Enrolled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "SLOW_SECONDS", 0.3)
    # Whose the device is stays known, and that it was heard is due with each point.
    monkeypatch.setattr(live_metrics, "_tenancy", AccountCache(lifetime=3600))
    monkeypatch.setattr(heard, "every", 0.0)
    agent.stream_metric("uptime", {"value": 1})
    agent.report("sysinfo", {"os": "before"})
    eventually(RealtimeData.objects.filter(data__os="before").exists)
    eventually(lambda: "uptime" in ring_buffers.recent(enrolled.device.pk))
    hanging = backends()
    for pid in hanging:
        os.kill(pid, signal.SIGSTOP)
    try:
        # Before anybody has noticed that Postgres hangs.
        for count in (2, 3):
            agent.stream_metric("uptime", {"value": count})
            eventually(lambda so_many=count: len(values(enrolled, "uptime")) == so_many)
        agent.report("sysinfo", {"os": "meanwhile"})
        eventually(lambda: DATABASE.is_open)
        agent.stream_metric("uptime", {"value": 4})
        eventually(lambda: len(values(enrolled, "uptime")) == 4)
    finally:
        for pid in hanging:
            os.kill(pid, signal.SIGCONT)
    eventually(RealtimeData.objects.filter(data__os="meanwhile").exists)
    assert not DATABASE.is_open


def values(enrolled: Enrolled, metric: str) -> list[object]:
    return list(ring_buffers.recent(enrolled.device.pk).get(metric, ()))


def backends() -> list[int]:
    """The server's processes that serve the subscriber."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return [pid for (pid,) in cursor.fetchall()]
