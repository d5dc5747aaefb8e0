"""An agent written from docs/write-your-own-agent.md alone enrols, reports and answers."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings
from pytest_django.live_server_helper import LiveServer
from rest_framework.test import APIClient

from devices.models import OPEN_STATES, Command, Connectivity
from devices.telemetry import ring_buffers
from tenants.actions.keys import create_enrollment_key
from tenants.models import BrokerAccount, Group, User
from tests.support.people import authorization
from tests.support.system import System, eventually

AGENT = Path("tests/support/agents/socket_agent.py")


@pytest.fixture
def agent(
    system: System, live_server: LiveServer, group_a: Group
) -> Iterator[subprocess.Popen[bytes]]:
    system.start_subscriber()
    eventually(BrokerAccount.objects.exclude(provisioned_at=None).exists)
    _, key = create_enrollment_key(group_a, name="strangers", max_uses=1)
    script = [sys.executable, AGENT, live_server.url, str(group_a.pk), key]
    with subprocess.Popen(script, cwd=settings.BASE_DIR) as process:
        yield process
        process.kill()


def test_it_enrols_reports_and_answers(
    agent: subprocess.Popen[bytes], group_a: Group, alice: User, api: APIClient
) -> None:
    assert len((settings.BASE_DIR / AGENT).read_text().splitlines()) < 80
    heard = Connectivity.objects.filter(device__group=group_a, agent_version="1.0")
    device = eventually(heard.first).device
    eventually(lambda: ring_buffers.recent(device.pk).get("uptime"))

    for command, parameters, answer in (
        ("ping", {}, ("succeeded", {"pong": True}, "")),
        ("echo", {"text": "grüß Gott"}, ("succeeded", {"text": "grüß Gott"}, "")),
        ("dance", {}, ("failed", None, "unknown command dance")),
    ):
        body = {"command": command, "parameters": parameters}
        path = f"/api/nats/device/{device.pk}/command"
        issued = api.post(path, body, format="json", **authorization(alice))
        assert issued.status_code == 202, issued.json()
        row = Command.objects.filter(uuid=issued.json()["command_id"])
        eventually(row.exclude(state__in=OPEN_STATES).exists)
        assert row.values_list("state", "result", "error").get() == answer
    assert agent.poll() is None
