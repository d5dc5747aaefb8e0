"""What docs/write-your-own-agent.md shows is what the platform reads and sends."""

import json
import re
from collections import defaultdict
from typing import Any
from uuid import UUID

import pytest
from django.conf import settings
from rest_framework.test import APIClient

from devices.commands.issue import issue
from devices.models import Command, CommandState, Connectivity, Device, RealtimeData
from devices.telemetry.reports import MAX_KINDS
from natsbridge.identity import nkeys
from natsbridge.jetstream.declarations import INGEST_PER_SUBJECT, platform_streams
from natsbridge.models import DeadLetter
from natsbridge.protocol import envelope, kinds
from tenants.actions.keys import create_enrollment_key
from tenants.models import BrokerAccount, Group, User
from tests.support.people import enrol
from tests.support.system import System, eventually

GUIDE = (settings.BASE_DIR / "docs" / "write-your-own-agent.md").read_text()
EXAMPLES: dict[str, list[Any]] = defaultdict(list)
for name, text in re.findall(r"^```json ([\w-]+)\n(.*?)^```", GUIDE, re.DOTALL | re.MULTILINE):
    EXAMPLES[name].append(json.loads(text))
REPORTS = ("heartbeat", "status", "sysinfo", "monitoring")


def shape(value: Any) -> Any:
    """Return the names in an object, and in those within."""
    return {name: shape(each) for name, each in value.items()} if isinstance(value, dict) else None


def example(name: str) -> Any:
    (only,) = EXAMPLES[name]
    return only


def test_each_body_is_read_whole() -> None:
    tenant, device = UUID(int=1), UUID(int=2)
    for kind in (*REPORTS, "response"):
        for body in EXAMPLES[kind]:
            read = envelope.decode(kind, json.dumps(body).encode(), tenant=tenant, device=device)
            known = (
                body.keys() if isinstance(read, dict) else {*read.__struct_fields__, "timestamp"}
            )
            assert body.keys() <= set(known)
    beat = envelope.decode(
        "heartbeat", json.dumps(example("heartbeat")).encode(), tenant=tenant, device=device
    )
    assert isinstance(beat, kinds.Heartbeat)
    assert None not in (beat.agent_version, beat.session_id, beat.capabilities, beat.status)
    metric = json.dumps(example("metric")).encode()
    assert envelope.decode_metric(metric, device=device) == (12.5, 1763766000250)


@pytest.mark.django_db
def test_registration_and_renewal_answer_as_shown(group_a: Group, api: APIClient) -> None:
    body = example("register")
    assert nkeys.is_public_user_key(body["nkey_public"])
    _, key = create_enrollment_key(group_a, name="guide", max_uses=1)
    body |= {"groupuuid": str(group_a.pk), "enrollment_key": key}
    wrong = api.post("/api/nats/agent/register", body, format="json")
    assert (wrong.status_code, wrong["Content-Type"]) == (401, "application/problem+json")

    body = {name: body[name] for name in body if name not in ("timestamp", "signature")}
    answer = api.post("/api/nats/agent/register", body, format="json")
    assert (answer.status_code, shape(answer.json())) == (201, shape(example("register-answer")))
    device, token = answer.json()["deviceuuid"], answer.json()["device_token"]
    renewed = api.get(
        f"/api/nats/device/{device}/credentials", HTTP_AUTHORIZATION=f"Bearer {token}"
    ).json()
    shown = example("credentials-answer")
    assert shape(renewed).keys() == shape(shown).keys()
    assert renewed["credentials"].keys() >= shown["credentials"].keys()
    assert renewed["credentials"].keys() == answer.json()["nats_credentials"].keys()


def test_what_is_shown_is_stored_and_a_command_looks_as_shown(
    system: System, group_a: Group, alice: User
) -> None:
    system.start_subscriber()
    eventually(BrokerAccount.objects.exclude(provisioned_at=None).exists)
    agent = system.agent(enrol(group_a, "guided"))
    for kind in REPORTS:
        assert agent.report(kind, example(kind)) in ("INGEST", "LATEST")
    eventually(lambda: RealtimeData.objects.count() == len(REPORTS) - 1)
    claimed = Connectivity.objects.giving_receipts().filter(agent_version="1.4.2")
    device = eventually(claimed.first).device

    success, error, receipt = EXAMPLES["response"]
    for answer, state in ((success, CommandState.SUCCEEDED), (error, CommandState.FAILED)):
        command = issue(device, "restart_service", {"service": "web"}, by=alice)
        received = eventually(lambda: agent.received and agent.received.pop())
        assert received["payload"]["command_id"] == str(command.uuid)
        assert shape(received) == shape(example("command"))
        of_it = {"command_id": str(command.uuid)}
        agent.report("response", receipt | of_it)
        agent.report("response", answer | of_it)
        rows = Command.objects.filter(pk=command.pk, state=state, delivered_at__isnull=False)
        eventually(rows.exists)
    assert not DeadLetter.objects.exists()


def test_the_limits_are_those_of_the_platform() -> None:
    limits = GUIDE.partition("\n## Limits\n")[2]
    assert f"| depth of JSON | {envelope.MAX_DEPTH} |" in limits
    assert f"| `devicename` | {Device._meta.get_field('name').max_length} characters |" in limits
    assert f"{kinds.MAX_VERSION}, {kinds.MAX_SESSION} characters" in limits
    assert f"| kinds of monitoring data | {MAX_KINDS} a device |" in limits
    assert f"| {INGEST_PER_SUBJECT:,} a device |" in limits
    largest = {each.config.max_msg_size for each in platform_streams()[:2]}
    assert [f"| a message | {size // 1024} KiB |" in limits for size in largest] == [True]
    assert f"{settings.COMMAND_RESULT_MAX_BYTES // 1024} KiB" in limits
    assert f"{settings.DEVICE_MESSAGES_PER_SECOND} a second" in limits
    assert f"{settings.DEVICE_MESSAGES_BURST:,} at once" in limits
    assert f"({settings.COMMAND_RESPONSE_SECONDS // 60} minutes unless" in GUIDE
