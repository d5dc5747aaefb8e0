"""Durable messages through the real broker and a running subscriber, into the database."""

import time
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from devices.commands import issue as commands
from devices.models import Command, CommandState, Connectivity, Device, RealtimeData
from natsbridge.models import DeadLetter
from tenants.models import Group, User
from tests.support.people import Enrolled, enrol
from tests.support.system import Agent, System, eventually
from wegweiser.quickstart.servers import Postgres


@pytest.fixture
def enrolled(system: System, group_a: Group) -> Enrolled:
    return enrol(group_a, "anna-laptop")


@pytest.fixture
def agent(system: System, enrolled: Enrolled) -> Agent:
    return system.running_agent(enrolled)


def connectivity(device: Device) -> Connectivity:
    return Connectivity.objects.get(device=device)


def dead_letters(reason: str) -> int:
    return DeadLetter.objects.filter(reason=reason).count()


def test_a_bare_heartbeat_and_a_wrapped_one_both_count(agent: Agent, enrolled: Enrolled) -> None:
    device = enrolled.device
    agent.report("heartbeat", {"agent_version": "1.0", "session_id": "first"})
    eventually(lambda: connectivity(device).session_id == "first")
    body = {"agent_version": "1.1", "session_id": "second", "system_info": {"hostname": "anna"}}
    wrapper = {
        "tenant_uuid": str(device.tenant_id),
        "device_uuid": str(device.pk),
        "message_type": "heartbeat",
        "payload": body,
        "timestamp": time.time(),
        "message_id": "m1",
    }
    agent.report("status.heartbeat", wrapper)
    eventually(lambda: connectivity(device).session_id == "second")
    assert connectivity(device).agent_version == "1.1"
    assert connectivity(device).connection_info["system_info"] == {"hostname": "anna"}


def test_a_heartbeat_that_is_delivered_late_does_not_go_back_in_time(
    agent: Agent, enrolled: Enrolled
) -> None:
    agent.heartbeat(session_id="newest")
    eventually(lambda: connectivity(enrolled.device).session_id == "newest")
    ahead = timezone.now() + timedelta(minutes=1)
    Connectivity.objects.filter(device=enrolled.device).update(last_heartbeat=ahead)
    agent.heartbeat(session_id="older")
    agent.report("status", {"marker": 1})
    eventually(lambda: RealtimeData.objects.filter(device=enrolled.device).exists())
    assert connectivity(enrolled.device).session_id == "newest"


def test_the_latest_of_each_kind_is_kept(agent: Agent, enrolled: Enrolled) -> None:
    agent.report("monitoring", {"monitoring_type": "disk", "free": 1})
    agent.report("monitoring", {"monitoring_type": "disk", "free": 2})
    agent.report("monitoring", {"monitoring_type": "load", "one": 0.5})
    agent.report("sysinfo", {"payload": {"os": "Debian"}, "message_type": "sysinfo"})
    eventually(lambda: RealtimeData.objects.count() == 3)
    rows = dict(RealtimeData.objects.values_list("kind", "data"))
    eventually(lambda: RealtimeData.objects.get(kind="monitoring:disk").data["free"] == 2)
    assert rows["sysinfo"] == {"os": "Debian"}
    assert rows["monitoring:load"]["one"] == 0.5


def test_ten_thousand_responses_and_heartbeats_of_a_stopped_subscriber_are_caught_up(
    system: System, agent: Agent, enrolled: Enrolled, alice: User
) -> None:
    system.stop_subscriber()
    deadline = timezone.now() + timedelta(hours=1)
    rows = Command.objects.bulk_create(
        Command(device=enrolled.device, command="ping", created_by=alice, deadline=deadline)
        for _ in range(10_000)
    )
    bodies = [
        {"command_id": str(row.uuid), "timestamp": time.time(), "result": {"status": "success"}}
        for row in rows
    ]
    agent.report_all("response", bodies)
    agent.heartbeat(session_id="bare")
    wrapper = {
        "device_uuid": str(enrolled.device.pk),
        "message_type": "heartbeat",
        "payload": {"session_id": "last one"},
    }
    agent.report("status.heartbeat", wrapper)
    system.start_subscriber()
    eventually(lambda: not Command.objects.exclude(state=CommandState.SUCCEEDED).exists())
    eventually(lambda: connectivity(enrolled.device).session_id == "last one")


def test_a_device_cannot_invent_kinds_without_end(agent: Agent, enrolled: Enrolled) -> None:
    agent.report_all("monitoring", [{"monitoring_type": f"m{number}"} for number in range(150)])
    eventually(lambda: dead_letters("too_many_kinds") == 50)
    assert RealtimeData.objects.filter(device=enrolled.device).count() == 100
    agent.report("monitoring", {"monitoring_type": "m1", "free": 1})
    eventually(lambda: RealtimeData.objects.filter(data__free=1).exists())


@pytest.mark.parametrize(
    ("kind", "body", "reason"),
    [
        ("heartbeat", b"{", "malformed_json"),
        ("heartbeat", b"\xff\xfe", "malformed_json"),
        ("heartbeat", ["online"], "wrong_type"),
        ("heartbeat", {"device_uuid": "00000000-0000-0000-0000-000000000000"}, "foreign_identity"),
        ("heartbeat", {"status": {"load": 1e300}}, "number_out_of_range"),
        ("response", {"command_id": "no uuid", "result": {"status": "success"}}, "wrong_type"),
        (
            "response",
            {
                "command_id": "5d6d6d3e-55cb-4b2d-8a58-35f4a7c44d7c",
                "result": {"status": "success"},
            },
            "unknown_command",
        ),
        ("monitoring", b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}", "too_deep"),
        ("sysinfo", b'{"a": "' + b"x" * 200_000, "malformed_json"),
        ("status", [1, 2], "wrong_type"),
    ],
)
def test_a_bad_message_becomes_a_dead_letter_with_its_reason_and_holds_up_nobody(
    agent: Agent, enrolled: Enrolled, kind: str, body: object, reason: str
) -> None:
    agent.report(kind, body)
    agent.heartbeat(session_id="after")
    eventually(lambda: connectivity(enrolled.device).session_id == "after")
    eventually(lambda: dead_letters(reason) == 1)
    row = DeadLetter.objects.get()
    assert bytes(row.body).startswith(body[:100] if isinstance(body, bytes) else b"")
    assert row.detail


@pytest.mark.parametrize("body", [b"{", ["online"], {"device_uuid": "1"}])
def test_a_heartbeat_that_cannot_be_read_still_shows_that_its_device_is_there(
    agent: Agent, enrolled: Enrolled, body: object
) -> None:
    agent.report("heartbeat", {"agent_version": "1.0", "session_id": "before"})
    before = eventually(lambda: connectivity(enrolled.device).last_heartbeat)
    agent.report("heartbeat", body)
    eventually(lambda: (connectivity(enrolled.device).last_heartbeat or before) > before)
    eventually(lambda: DeadLetter.objects.count() == 1)
    assert connectivity(enrolled.device).session_id == "before"
    assert connectivity(enrolled.device).presence == "online"


def test_what_cannot_be_read_shows_nothing_of_a_device_that_is_not_the_accounts(
    system: System, agent: Agent, group_b: Group
) -> None:
    victim = enrol(group_b, "berta-server").device
    tenant = system.tenant_agent(agent)
    tenant.publish(f"tenant.{agent.tenant}.device.{victim.pk}.heartbeat", b"{")
    eventually(lambda: DeadLetter.objects.count() == 1)
    assert connectivity(victim).last_heartbeat is None
    assert connectivity(victim).last_seen_online is None


def test_a_response_to_another_devices_command_becomes_a_dead_letter(
    system: System, agent: Agent, group_a: Group, alice: User
) -> None:
    other = enrol(group_a, "other").device
    row = commands.issue(other, "ping", {}, by=alice)
    agent.answer(row.uuid)
    eventually(lambda: dead_letters("foreign_command") == 1)
    row.refresh_from_db()
    assert row.state == CommandState.QUEUED


def test_a_device_that_the_accounts_tenant_does_not_own_is_refused(
    system: System, agent: Agent, enrolled: Enrolled
) -> None:
    """As when a device was deleted while its credential still works."""
    enrolled.device.delete()
    agent.heartbeat()
    eventually(lambda: dead_letters("unknown_device") == 1)


def test_the_tenants_own_credential_cannot_speak_for_another_tenants_device(
    system: System, agent: Agent, group_b: Group
) -> None:
    """The broker lets a tenant's credential name any device; the account says whose it is."""
    victim = enrol(group_b, "berta-server").device
    tenant = system.tenant_agent(agent)
    tenant.publish(f"tenant.{agent.tenant}.device.{victim.pk}.heartbeat")
    eventually(lambda: dead_letters("unknown_device") == 1)
    assert connectivity(victim).last_heartbeat is None


def test_nul_characters_are_replaced_since_the_database_cannot_hold_them(
    agent: Agent, enrolled: Enrolled
) -> None:
    agent.report("status", {"name": "a\0b", "inner": ["\0"]})
    row = eventually(lambda: RealtimeData.objects.filter(device=enrolled.device).first())
    assert row.data == {"name": "a\ufffdb", "inner": ["\ufffd"]}


def test_a_subject_that_is_not_utf8_does_not_deafen_the_subscriber(
    agent: Agent, enrolled: Enrolled
) -> None:
    agent.publish_raw(b"demo.system.%s.\xff\xfe" % str(enrolled.device.pk).encode())
    eventually(lambda: dead_letters("bad_subject") == 1)
    agent.heartbeat(session_id="still heard")
    eventually(lambda: connectivity(enrolled.device).session_id == "still heard")


def test_a_message_dressed_up_as_a_server_status_is_still_handled(
    agent: Agent, enrolled: Enrolled
) -> None:
    agent.publish_with_headers("heartbeat", b"", {"Status": "404", "Description": "No Messages"})
    eventually(lambda: dead_letters("malformed_json") == 1)


def test_a_missing_stream_is_made_again(system: System, agent: Agent, enrolled: Enrolled) -> None:
    system.delete_ingest()
    eventually(lambda: system.ingest_exists())
    agent.heartbeat(session_id="after")
    eventually(lambda: connectivity(enrolled.device).session_id == "after")


def test_a_restarted_server_is_found_again(
    system: System, agent: Agent, enrolled: Enrolled
) -> None:
    system.server.stop()
    system.start_server()
    again = eventually(lambda: system.agent(enrolled))
    again.heartbeat(session_id="after")
    eventually(lambda: connectivity(enrolled.device).session_id == "after")


def test_postgres_away_costs_nothing_but_time(
    agent: Agent, enrolled: Enrolled, postgres_server: Postgres
) -> None:
    agent.heartbeat(session_id="before")
    eventually(lambda: connectivity(enrolled.device).session_id == "before")
    connection.close()
    postgres_server.stop()
    for number in range(20):
        agent.report("monitoring", {"monitoring_type": f"m{number}"})
    agent.heartbeat(session_id="meanwhile")
    postgres_server.start()
    eventually(lambda: connectivity(enrolled.device).session_id == "meanwhile")
    eventually(lambda: enrolled.device.realtime_data.count() == 20)
    assert not DeadLetter.objects.exists()
