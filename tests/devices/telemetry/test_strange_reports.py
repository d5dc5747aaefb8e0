"""What becomes of strange reports, as far as the rows tell."""

import json
import re
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.utils import timezone
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from rest_framework.test import APIClient

from devices.commands import issue as commands
from devices.models import Command, CommandState, Connectivity, Device
from devices.presence import heartbeats
from devices.telemetry import reports, responses, ring_buffers
from natsbridge.errors import MalformedMessage
from natsbridge.protocol import envelope
from natsbridge.protocol.envelope import Message, RawMessage
from natsbridge.registry import Rejection
from natsbridge.subscriber.status import beat
from tenants.actions.suspension import suspend_tenant
from tenants.models import Tenant, User
from tests.support.people import authorization, logged_in
from tests.support.strategies import KINDS, messages
from tests.support.waiting import SAFETY_NET

pytestmark = pytest.mark.usefixtures("redis_server")


@pytest.fixture
def command(device_a: Device, alice: User) -> Command:
    return commands.issue(device_a, "osquery", {}, by=alice)


def report(device: Device, kind: str, body: Any) -> list[Rejection]:
    data = json.dumps(body).encode()
    account, tenant = device.tenant.broker_account.public_key, device.tenant_id
    raw = RawMessage(f"ingest.{account}.{kind}", data, {}, timezone.now())
    decoded = envelope.decode(kind, data, tenant=tenant, device=device.pk)
    record = responses.record_responses if kind == "response" else heartbeats.record_heartbeats
    return record([Message(account, tenant, device.pk, kind, decoded, raw)])


def answer(device: Device, command: UUID, at: datetime | None = None, **result: Any) -> Any:
    timestamp = (at or timezone.now()).timestamp()
    body = {"command_id": str(command), "timestamp": timestamp}
    return report(device, "response", body | {"result": {"status": "success"} | result})


def test_a_huge_result_is_cut_and_its_page_says_so(
    device_a: Device, command: Command, alice: User, settings: Any
) -> None:
    settings.COMMAND_RESULT_MAX_BYTES = 2048
    rows = [{"pid": number, "name": "x" * 20} for number in range(1000)]
    assert answer(device_a, command.uuid, result=rows) == []
    command.refresh_from_db()
    assert command.state == CommandState.SUCCEEDED
    assert len(json.dumps(command.result)) < 2300
    assert command.result == rows[: len(command.result)]
    assert command.result_cut_from == len(json.dumps(rows, separators=(",", ":")))
    path = f"/devices/{device_a.pk}/commands/{command.uuid}/"
    page = logged_in(alice).get(path).content.decode()
    assert "The result was too large: this is the beginning of" in page


@pytest.mark.parametrize(("said", "kept"), [(900_000, 900_000), ("much", None), (-1, None)])
def test_what_the_agent_has_cut_is_known_to_be_cut(
    device_a: Device, command: Command, said: Any, kept: int | None
) -> None:
    answer(device_a, command.uuid, result="xx", cut_from=said)
    command.refresh_from_db()
    assert (command.result, command.result_cut_from) == ("xx", kept)


def test_what_a_device_says_of_itself_at_length_loses_its_largest_members(
    device_a: Device, settings: Any
) -> None:
    settings.DEVICE_INFO_MAX_BYTES = 1_000
    long = {"hostname": "anna", "software": ["x" * 50] * 50, "platform": "Linux"}
    report(
        device_a,
        "heartbeat",
        {"system_info": long, "status": "y" * 5_000, "capabilities": {"receipts": True, **long}},
    )
    row = Connectivity.objects.get(device=device_a)
    removed = "1 of 3 members, of 2703 bytes in all; 1000 are kept"
    assert row.connection_info["system_info"] == {
        "hostname": "anna",
        "platform": "Linux",
        "(removed)": removed,
    }
    assert len(row.connection_info["status"]) == 998
    assert row.capabilities["receipts"] is True
    assert "software" not in row.capabilities


def test_a_backslash_before_u0000_is_text_on_its_way_to_an_agent_and_back(
    device_a: Device, alice: User, api: APIClient
) -> None:
    path = f"/api/nats/device/{device_a.pk}/command"
    text = "C:\\u0000 \\\\u0000"
    for parameters, status in ({"path": text}, 202), ({"path": "\0"}, 400), ({"\0": 1}, 400):
        body = {"command": "list", "parameters": parameters}
        answered = api.post(path, body, format="json", **authorization(alice))
        assert answered.status_code == status, answered.json()
    row = Command.objects.get()
    assert row.parameters == {"path": text}
    answer(device_a, row.uuid, result={text: f"{text}\0"})
    row.refresh_from_db()
    assert row.result == {text: f"{text}\ufffd"}


OWN = {"ttl": 64, "eth0": {"b": 1, "a": {"": None}}, "10": 1, "9": 2, "aa": [{"z": 1, "y": 2}]}


def test_a_result_keeps_the_agents_keys_in_the_agents_order(
    device_a: Device, command: Command, alice: User, api: APIClient
) -> None:
    answer(device_a, command.uuid, result=OWN)
    row = Command.objects.get(pk=command.pk)
    assert json.dumps(row.result) == json.dumps(OWN)
    row.save()
    path = f"/api/nats/command/{command.uuid}"
    shown = api.get(path, **authorization(alice)).content.decode()
    assert json.dumps(OWN, separators=(",", ":")) in shown
    page = f"/devices/{device_a.pk}/commands/{command.uuid}/"
    text = logged_in(alice).get(page).content.decode()
    result = text[text.index('<div class="result">') :]
    assert re.findall("<d[th]>(\\w+)</dt>", result)[:6] == ["ttl", "eth0", "b", "a", "10", "9"]


@pytest.mark.parametrize("value", [None, "text", "1", 7, 0.5, True, [], {}, [None], "null"])
def test_a_result_of_any_kind_comes_back_as_it_was(
    device_a: Device, command: Command, value: Any
) -> None:
    answer(device_a, command.uuid, result=value)
    row = Command.objects.get(pk=command.pk)
    assert (type(row.result), row.result) == (type(value), value)
    row.save()
    assert Command.objects.values_list("result", flat=True).get(pk=command.pk) == value


def test_what_a_device_says_of_itself_keeps_its_order(device_a: Device) -> None:
    said = {"uptime": 1, "cpu": {"model": "x", "count": 8}, "hostname": "anna"}
    report(device_a, "heartbeat", {"system_info": said, "status": {"z": 1, "a": 2}})
    report(device_a, "heartbeat", {"status": {"z": 1, "b": 2, "a": 3}})
    known = Connectivity.objects.get(device=device_a).connection_info
    assert json.dumps(known["system_info"]) == json.dumps(said)
    assert list(known["status"]) == ["z", "b", "a"]


def test_a_huge_error_is_cut(device_a: Device, command: Command, settings: Any) -> None:
    answer(device_a, command.uuid, status="error", error="x" * 900_000)
    command.refresh_from_db()
    assert len(command.error) == settings.COMMAND_RESULT_MAX_BYTES - 2


def test_a_clock_an_hour_ahead_changes_no_time_but_the_one_that_says_so(
    device_a: Device, command: Command
) -> None:
    before = timezone.now()
    beat("test", started_at=before, connected=True, details={})
    ahead = timezone.now() + timedelta(hours=1)
    report(device_a, "heartbeat", {"timestamp": ahead.timestamp(), "agent_version": "1"})
    answer(device_a, command.uuid, at=ahead)
    known = Connectivity.objects.get(device=device_a)
    assert known.clock_offset_seconds == pytest.approx(3600, abs=SAFETY_NET)
    assert known.clock_is_off
    command.refresh_from_db()
    for moment in (known.last_heartbeat, known.last_seen_online, command.finished_at):
        assert moment
        assert before <= moment <= timezone.now()


def test_a_response_of_a_device_deleted_meanwhile_becomes_a_dead_letter_with_the_reason(
    device_a: Device, command: Command
) -> None:
    uuid = device_a.pk
    Device.objects.all().delete()
    device_a.pk = uuid
    (rejected,) = answer(device_a, command.uuid)
    assert rejected.reason == "unknown_device"
    assert str(uuid) in rejected.detail


def test_what_a_device_said_before_its_tenant_was_suspended_is_stored(
    device_a: Device, tenant_a: Tenant, command: Command
) -> None:
    suspend_tenant(tenant_a, by=None, reason="unpaid")
    assert answer(device_a, command.uuid, result="done") == []
    command.refresh_from_db()
    assert (command.state, command.result) == (CommandState.SUCCEEDED, "done")


@pytest.mark.parametrize(
    ("state", "unanswered", "becomes"),
    [
        ("expired", False, "succeeded"),
        ("failed", True, "succeeded"),
        ("failed", False, "failed"),
        ("cancelled", False, "cancelled"),
    ],
)
def test_a_late_answer_corrects_only_what_ended_without_one(
    device_a: Device, command: Command, state: str, unanswered: bool, becomes: str
) -> None:
    Command.objects.update(state=state, error="why", unanswered=unanswered)
    answer(device_a, command.uuid)
    command.refresh_from_db()
    assert (command.state, command.error == "why") == (becomes, becomes == state)


def test_an_agents_own_words_are_not_taken_for_its_silence(
    device_a: Device, command: Command
) -> None:
    answer(device_a, command.uuid, status="error", error="no response")
    answer(device_a, command.uuid, result="second")
    command.refresh_from_db()
    assert (command.state, command.error) == ("failed", "no response")


NOBODY = UUID(int=0)


@examples(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(kind=st.sampled_from(KINDS), data=messages(NOBODY, NOBODY, NOBODY))
def test_whatever_is_accepted_can_be_stored(
    device_a: Device, command: Command, kind: str, data: bytes
) -> None:
    Command.objects.update(state=CommandState.SENT, result=None, finished_at=None)
    for nobody, known in ((device_a.pk, "device_uuid"), (device_a.tenant_id, "tenant_uuid")):
        data = data.replace(f'"{known}": "{NOBODY}"'.encode(), f'"{known}": "{nobody}"'.encode())
    data = data.replace(str(NOBODY).encode(), str(command.uuid).encode())
    if kind == "metric":
        with suppress(MalformedMessage):
            value, at = envelope.decode_metric(data, device=device_a.pk)
            ring_buffers.append({(device_a.pk, "x"): [ring_buffers.Point(at or 0, value)]})
            assert ring_buffers.recent(device_a.pk, ["x"])["x"]
        return
    account, tenant = device_a.tenant.broker_account.public_key, device_a.tenant_id
    raw = RawMessage(f"ingest.{account}.{kind}", data, {}, timezone.now())
    try:
        body = envelope.decode(kind, data, tenant=tenant, device=device_a.pk)
    except MalformedMessage:
        return
    record = {"heartbeat": heartbeats.record_heartbeats, "response": responses.record_responses}
    taken = Message(account, tenant, device_a.pk, kind, body, raw)
    rejected = record.get(kind, reports.record_realtime_data)([taken])
    assert {each.reason for each in rejected} <= {"unknown_command", "wrong_type", "too_many_kinds"}
    if kind == "heartbeat":
        assert Connectivity.objects.get(device=device_a).last_heartbeat == raw.received_at
    elif kind == "response" and not rejected:
        assert Command.objects.get().state != CommandState.SENT
