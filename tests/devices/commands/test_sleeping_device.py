"""A command for a device that is off, with the real agent: it runs once, when it is back."""

import signal
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest
from pytest_django.fixtures import Settings
from pytest_django.live_server_helper import LiveServer
from rest_framework.test import APIClient

from devices.commands import issue as commands
from devices.models import Command, CommandState, Connectivity, Device
from tenants.actions.keys import create_enrollment_key
from tenants.models import BrokerAccount, Group, User
from tests.devices.agent.support import AgentProcess
from tests.support.people import authorization
from tests.support.system import System, eventually

CONNECTED = "connected to the broker"


@dataclass
class Home:
    """Where the agent enrols."""

    url: str
    group: UUID


def logged(caplog: pytest.LogCaptureFixture, row: Command) -> list[str]:
    """What the subscriber has logged of a command under its request's id, each event once. That of
    the response counts only if the agent has sent the id back."""
    lines = [record.msg for record in caplog.records if isinstance(record.msg, dict)]
    events = [
        line["event"]
        for line in lines
        if (line.get("request_id"), line.get("first")) == (row.request_id, str(row.uuid))
        and line.get("returned", 1) == 1
    ]
    return list(dict.fromkeys(events))


def reconnected(agent: AgentProcess) -> None:
    eventually(lambda: agent.log_text.count(CONNECTED) > 1)


def test_commands_for_a_device_that_is_off_run_in_order_and_once_when_all_is_back(
    system: System,
    redis_server: object,
    live_server: LiveServer,
    group_a: Group,
    alice: User,
    tmp_path: Path,
    settings: Settings,
    api: APIClient,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    settings.PRESENCE_GRACE_SECONDS = 0
    _, key = create_enrollment_key(group_a, name="test", max_uses=1)
    system.start_subscriber()
    accounts = BrokerAccount.objects.filter(tenant=group_a.tenant_id)
    eventually(accounts.exclude(provisioned_at=None).exists)
    agent = AgentProcess(tmp_path, Home(live_server.url, group_a.pk))  # type: ignore[arg-type]
    try:
        agent.start(key=key)
        eventually(Connectivity.objects.exclude(last_heartbeat=None).exists)
        agent.signal(signal.SIGKILL)
        agent.wait()
        eventually(Connectivity.objects.filter(presence="offline").exists)
        system.stop_subscriber()
        queries = [f"SELECT {number}" for number in range(3)]
        device = Device.objects.get()
        for number, query in enumerate(queries):
            answer = api.post(
                f"/api/nats/device/{device.pk}/command",
                {"command": "osquery", "parameters": {"query": query}},
                format="json",
                headers={"X-Request-ID": f"request-{number}"},
                **authorization(alice),
            )
            assert (answer.status_code, answer["X-Request-ID"]) == (202, f"request-{number}")
        system.server.stop()
        redis_server.stop()  # type: ignore[attr-defined]
        redis_server.start()  # type: ignore[attr-defined]
        system.start_server()
        system.start_subscriber()
        assert set(Command.objects.values_list("state", flat=True)) == {"queued"}
        agent.start(enrol=False)
        reconnected(agent)
        done = Command.objects.filter(state=CommandState.SUCCEEDED)
        eventually(lambda: done.count() == len(queries))
        assert sorted(agent.runs) == queries
        first, second, third = Command.objects.order_by("id")
        assert first.delivered_at <= second.delivered_at <= third.delivered_at
        for number, row in enumerate((first, second, third)):
            assert row.request_id == f"request-{number}"
            # The subscriber's first line is in its log by now, its last one only soon.
            eventually(lambda of=row: logged(caplog, of) == ["commands sent", "commands answered"])
    finally:
        agent.kill()


@pytest.mark.long
def test_a_command_on_its_way_when_the_agent_dies_runs_once_when_it_is_back(
    system: System, live_server: LiveServer, group_a: Group, alice: User, tmp_path: Path
) -> None:
    """The subscriber thinks for a while that the dead agent is there, and sends into the void."""
    _, key = create_enrollment_key(group_a, name="test", max_uses=1)
    system.start_subscriber()
    accounts = BrokerAccount.objects.filter(tenant=group_a.tenant_id)
    eventually(accounts.exclude(provisioned_at=None).exists)
    agent = AgentProcess(tmp_path, Home(live_server.url, group_a.pk))  # type: ignore[arg-type]
    try:
        agent.start(key=key)
        eventually(Connectivity.objects.exclude(last_heartbeat=None).exists)
        agent.signal(signal.SIGKILL)
        agent.wait()
        device = Device.objects.get()
        row = commands.issue(device, "osquery", {"query": "SELECT 1"}, by=alice)
        behind = commands.issue(device, "osquery", {"query": "SELECT 2"}, by=alice)
        eventually(Command.objects.filter(pk=row.pk, state=CommandState.SENT).exists)
        agent.start(enrol=False)
        reconnected(agent)
        done = Command.objects.filter(state=CommandState.SUCCEEDED)
        eventually(lambda: done.count() == 2)
        assert sorted(agent.runs) == ["SELECT 1", "SELECT 2"]
        row.refresh_from_db()
        behind.refresh_from_db()
        assert row.delivered_at <= behind.delivered_at  # type: ignore[operator]
    finally:
        agent.kill()
