"""Agents that know only a username and a password, on the whole backend."""

import json
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from typing import Any

import nats
import pytest
from django.conf import settings
from nats.aio.client import Client
from pytest_django.live_server_helper import LiveServer
from rest_framework.test import APIClient

from devices.enrolment import actions as enrolment
from devices.models import Command, Connectivity, Device
from devices.telemetry import ring_buffers
from tenants.actions.keys import create_enrollment_key
from tenants.credentials.issue import issue_device_password
from tenants.credentials.revocations import revoke_credential
from tenants.models import Action, AuditEntry, BrokerAccount, Credential, Group, Tenant, User
from tests.support.people import authorization
from tests.support.system import System, eventually
from tests.support.waiting import SAFETY_NET

LOGINS = 50


@pytest.fixture
def old_device(group_a: Group, alice: User) -> Device:
    return enrolment.record_existing(group_a, "old-one", by=alice)


@pytest.fixture
def provisioned(system: System, tenant_a: Tenant) -> None:
    system.start_subscriber()
    accounts = BrokerAccount.objects.filter(tenant=tenant_a).exclude(provisioned_at=None)
    eventually(accounts.exists)


@pytest.fixture
def agent(
    provisioned: None, live_server: LiveServer, old_device: Device, alice: User, api: APIClient
) -> Iterator[subprocess.Popen[bytes]]:
    upgraded = api.post(f"/api/nats/agent/{old_device.pk}/upgrade", **authorization(alice))
    token = upgraded.json()["device_token"]
    arguments = [live_server.url, str(old_device.pk), token]
    script = [sys.executable, "-m", "tests.support.agents.seed_agent", *arguments]
    process = subprocess.Popen(script, cwd=settings.BASE_DIR, start_new_session=True)
    yield process
    process.send_signal(signal.SIGKILL)
    process.wait()


def test_an_agent_of_the_old_contract_reports_streams_and_answers(
    agent: subprocess.Popen[bytes],
    old_device: Device,
    alice: User,
    api: APIClient,
    redis_server: object,
) -> None:
    heard = Connectivity.objects.filter(device=old_device, agent_version="seed-1.0")
    eventually(heard.exists)
    assert heard.get().connection_type == "nats"
    eventually(lambda: ring_buffers.recent(old_device.pk).get("cpu_percent"))
    body = {"command": "inventory"}
    path = f"/api/nats/device/{old_device.pk}/command"
    assert api.post(path, body, format="json", **authorization(alice)).status_code == 202
    eventually(lambda: Command.objects.get().state == "succeeded")
    assert Command.objects.get().result == "ran inventory"
    entry = AuditEntry.objects.get(action=Action.BROKER_LOGIN, device_uuid=old_device.pk)
    assert entry.tenant_uuid == old_device.tenant_id
    assert agent.poll() is None


def test_a_client_that_knows_only_what_it_was_answered_hears_that_its_reports_are_stored(
    system: System, provisioned: None, group_a: Group, alice: User, api: APIClient
) -> None:
    settings.AGENT_NATS_URL = f"{settings.NATS_URL},nats://127.0.0.1:9"
    _, key = create_enrollment_key(group_a, name="office")
    body = {"groupuuid": str(group_a.pk), "devicename": "stranger", "enrollment_key": key}
    registered = api.post("/api/nats/agent/register", body, "json").json()
    told = registered["nats_credentials"]

    async def report() -> dict[str, Any]:
        client = await nats.connect(
            told["nats_urls"],
            user=told["username"],
            password=told["password"],
            inbox_prefix=told["inbox_prefix"],
        )
        subjects = told["subjects"]
        commands = await client.subscribe(subjects["commands"])
        stored = {}
        for name in set(subjects) - {"commands", "metrics"}:
            answer = await client.request(subjects[name], b'{"timestamp": 1}', timeout=SAFETY_NET)
            stored[name] = json.loads(answer.data)["stream"]
        for name in ("cpu_percent", "uptime"):
            point = {"value": 7, "timestamp": time.time()}
            subject = subjects["metrics"].format(metric_type=name)
            await client.publish(subject, json.dumps(point).encode())
        command = json.loads((await commands.next_msg(timeout=SAFETY_NET)).data)
        await client.close()
        return stored | {"commands": command["payload"]["command"]}

    device = Device.objects.get(pk=registered["deviceuuid"])
    path = f"/api/nats/device/{device.pk}/command"
    api.post(path, {"command": "greet"}, "json", **authorization(alice))
    assert system.thread.run(report()) == {
        "heartbeat": "LATEST",
        "status": "LATEST",
        "sysinfo": "LATEST",
        "responses": "INGEST",
        "monitoring": "INGEST",
        "commands": "greet",
    }
    eventually(lambda: ring_buffers.recent(device.pk).keys() >= {"cpu_percent", "uptime"})


def test_many_log_in_by_password_at_once_and_a_wrong_one_never(
    system: System, provisioned: None, tenant_a: Tenant
) -> None:
    issued = [issue_device_password(tenant_a.pk, uuid.uuid4()) for _ in range(LOGINS)]
    good = [(each.username, each.secret) for each in issued]
    bad = [("", ""), (good[0][0], good[1][1]), ("admin", "admin")]
    answers = system.admitted_by_password(good + bad)
    assert answers == [True] * LOGINS + [False] * len(bad)
    logins = AuditEntry.objects.filter(action=Action.BROKER_LOGIN, detail__kind="password")
    assert logins.count() == LOGINS
    refused = AuditEntry.objects.filter(action=Action.BROKER_REFUSED, via="broker")
    assert set(refused.values_list("actor", flat=True)) >= {
        "anonymous",
        good[0][0],
        "unknown name",
    }
    assert not Credential.objects.filter(first_used_at=None).exists()
    revoke_credential(issued[0].credential, by=None, reason="test")
    assert system.admitted_by_password(good[:2]) == [False, True]


def test_a_password_that_is_revoked_ends_the_connection_it_opened(
    system: System, provisioned: None, tenant_a: Tenant
) -> None:
    issued = issue_device_password(tenant_a.pk, uuid.uuid4())
    client, sibling = Client(), Client()

    async def open_both() -> None:
        for each, (user, password) in zip((client, sibling), logins, strict=True):
            await each.connect(
                settings.NATS_URL, user=user, password=password, allow_reconnect=False
            )

    second = issue_device_password(tenant_a.pk, uuid.uuid4())
    logins = [(issued.username, issued.secret), (second.username, second.secret)]
    system.thread.run(open_both())
    revoke_credential(issued.credential, by=None, reason="stolen")
    eventually(lambda: client.is_closed)
    assert sibling.is_connected
    system.thread.run(sibling.close())
