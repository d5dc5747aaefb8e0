"""A heartbeat over HTTP: a sign of life, which says nothing of the device's connection."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from devices.commands import delivery
from devices.commands import issue as commands
from devices.enrolment.actions import record_existing
from devices.models import (
    BrokerSession,
    Command,
    Connectivity,
    Device,
    Presence,
    PresenceChange,
    Reporter,
)
from devices.presence import sessions
from natsbridge.models import Coverage
from tenants.broker.accounts import ensure_platform_keys
from tenants.models import Group, User, hash_token
from tests.support.people import Enrolled, authorization, enrol

pytestmark = pytest.mark.usefixtures("redis_server")

BODY = {
    "agent_version": "2.1",
    "session_id": "another",
    "capabilities": {"receipts": True, "commands": [{"name": "ping"}]},
    "system_info": {"hostname": "anna"},
    "status": "online",
}


@pytest.fixture
def enrolled(group_a: Group) -> Enrolled:
    ensure_platform_keys()
    return enrol(group_a, "anna-laptop")


def path_of(device: Device) -> str:
    return f"/api/nats/device/{device.pk}/heartbeat"


def beat(api: APIClient, enrolled: Enrolled, body: object = BODY) -> Any:
    return api.post(path_of(enrolled.device), body, "json", **enrolled.authorization)


def stored(device: Device) -> Connectivity:
    return Connectivity.objects.get(device=device)


def test_the_device_is_told_when_its_heartbeat_came(api: APIClient, enrolled: Enrolled) -> None:
    answer = beat(api, enrolled)
    at = stored(enrolled.device).http_heartbeat_at
    assert at is not None
    assert (answer.status_code, answer.json()) == (
        200,
        {
            "success": True,
            "message": "Heartbeat recorded.",
            "device_uuid": str(enrolled.device.pk),
            "timestamp": round(at.timestamp(), 3),
        },
    )


def test_nobody_but_the_device_sends_its_heartbeat(
    api: APIClient, enrolled: Enrolled, group_a: Group, alice: User, bob: User, charlie: User
) -> None:
    path, sibling = path_of(enrolled.device), enrol(group_a, "sibling")
    for person, status in ((alice, 403), (bob, 403), (charlie, 404)):
        assert api.post(path, BODY, "json", **authorization(person)).status_code == status
    assert api.post(path, BODY, "json", **sibling.authorization).status_code == 404
    assert api.post(path, BODY, "json").status_code == 401
    assert stored(enrolled.device).http_heartbeat_at is None


@pytest.mark.parametrize("claimed", ["tenant_uuid", "device_uuid"])
@pytest.mark.parametrize("wrapped", [True, False])
def test_a_heartbeat_that_claims_another_origin_is_forbidden(
    api: APIClient, enrolled: Enrolled, claimed: str, wrapped: bool
) -> None:
    body = BODY | {claimed: str(uuid4())}
    if wrapped:
        body = {"message_type": "heartbeat", "payload": body}
    answer = beat(api, enrolled, body)
    assert (answer.status_code, answer["Content-Type"]) == (403, "application/problem+json")
    assert claimed in answer.json()["detail"]
    assert stored(enrolled.device).http_heartbeat_at is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b'{"agent_version": 2, "capabilities": ["ping"], "timestamp": "2026-01-01", "new": 1}',
        b'{"message_type": "heartbeat", "payload": {"agent_version": "2"}}',
        b'{"status": "\\u0000"}',
    ],
)
def test_its_body_is_read_as_liberally_as_over_nats(
    api: APIClient, enrolled: Enrolled, data: bytes
) -> None:
    answer = api.post(
        path_of(enrolled.device),
        data,
        content_type="application/json",
        **enrolled.authorization,
    )
    assert answer.status_code == 200
    row = stored(enrolled.device)
    assert row.http_heartbeat_at
    assert row.agent_version == ("2" if b"agent_version" in data else "")


@pytest.mark.parametrize(
    ("data", "content_type", "status"),
    [
        (b"not JSON", "application/json", 400),
        (b"[]", "application/json", 400),
        (b'{"status": "\xff"}', "application/json", 400),
        (b'{"status": ' + b"[" * 200 + b"]" * 200 + b"}", "application/json", 400),
        (b'{"status": {"n": 1e300}}', "application/json", 400),
        (b"agent_version=2", "application/x-www-form-urlencoded", 415),
    ],
)
def test_a_body_that_cannot_be_read_is_refused(
    api: APIClient, enrolled: Enrolled, data: bytes, content_type: str, status: int
) -> None:
    answer = api.post(
        path_of(enrolled.device), data, content_type=content_type, **enrolled.authorization
    )
    assert (answer.status_code, answer["Content-Type"]) == (status, "application/problem+json")
    assert stored(enrolled.device).http_heartbeat_at is None


def test_it_stores_what_the_agent_says_and_keeps_what_it_leaves_out(
    api: APIClient, enrolled: Enrolled
) -> None:
    beat(api, enrolled, BODY | {"timestamp": timezone.now().timestamp() + 3600})
    beat(api, enrolled, {"status": {"load": 1}})
    row = stored(enrolled.device)
    assert (row.agent_version, row.clock_is_off) == ("2.1", True)
    assert row.connection_info == {"system_info": {"hostname": "anna"}, "status": {"load": 1}}
    assert row.capabilities == {"commands": [{"name": "ping"}]}, "no receipts"
    assert row.session_id == "", "which heartbeats over NATS compare"


def test_it_is_shown_as_the_last_heartbeat_by_http(
    api: APIClient, client: Client, enrolled: Enrolled, bob: User, listening: Coverage
) -> None:
    at = beat(api, enrolled).json()["timestamp"]
    shown = api.get(f"/api/nats/device/{enrolled.device.pk}/status", **authorization(bob)).json()
    assert (shown["last_heartbeat"], shown["last_heartbeat_by"]) == (at, "http")
    assert (shown["status"], shown["last_seen_online"]) == ("Offline", None)
    client.force_login(bob)
    page = client.get(f"/devices/{enrolled.device.pk}/").content.decode()
    assert "over HTTP. A device is online only while it is connected to the broker." in page
    assert "heartbeat over HTTP" in client.get("/").content.decode()


def connected(device: Device, **changes: Any) -> None:
    """An agent that gives receipts, in its first session, and has just claimed them."""
    now = timezone.now()
    BrokerSession.objects.create(
        server_id="N1", client_id=1, device=device, started_at=now - timedelta(minutes=2)
    )
    values = {
        "presence": Presence.ONLINE,
        "presence_at": now - timedelta(minutes=2),
        "presence_by": Reporter.CONNECT,
        "last_heartbeat": now - timedelta(seconds=30),
        "last_seen_online": now - timedelta(seconds=30),
        "session_id": "first",
        "capabilities": {"receipts": True, "commands": [{"name": "restart"}]},
        "capabilities_at": now - timedelta(seconds=30),
    }
    Connectivity.objects.filter(device=device).update(**values | changes)


def left(device: Device) -> None:
    gone = timezone.now() - timedelta(seconds=10)
    connected(device, presence=Presence.OFFLINE, presence_at=gone, presence_by=Reporter.DISCONNECT)
    BrokerSession.objects.update(ended_at=gone, end_reason="Client Closed")


def leaving(device: Device) -> None:
    """Its grace is nearly over."""
    connected(device, offline_due_at=timezone.now() - timedelta(seconds=1))
    BrokerSession.objects.update(
        ended_at=timezone.now() - timedelta(seconds=4), end_reason="Client Closed"
    )


def silent(device: Device) -> None:
    quiet = timezone.now() - timedelta(minutes=20)
    connected(device, last_seen_online=quiet, last_heartbeat=quiet)


def never(device: Device) -> None:
    """It has been registered, and no more."""


def elsewhere(device: Device) -> None:
    Connectivity.objects.filter(device=device).update(connection_type="node-red")


def unheard(device: Device) -> None:
    """It has no row of its own yet."""
    Connectivity.objects.filter(device=device).delete()


STATES = [connected, left, leaving, silent, never, elsewhere, unheard]


@pytest.mark.parametrize("state", STATES)
def test_it_changes_neither_presence_nor_connection_type(
    api: APIClient, enrolled: Enrolled, bob: User, listening: Coverage, state: Any
) -> None:
    state(enrolled.device)
    path, as_bob = f"/api/nats/device/{enrolled.device.pk}/status", authorization(bob)
    names = ("status", "is_online", "presence", "presence_since", "reported_by")
    names += ("connection_type", "last_seen_online", "unstable")
    before = api.get(path, **as_bob).json()
    assert beat(api, enrolled).status_code == 200
    after = api.get(path, **as_bob).json()
    assert {name: after[name] for name in names} == {name: before[name] for name in names}
    assert after["last_heartbeat_by"] == "http"
    assert not PresenceChange.objects.exists()


def test_it_does_not_save_a_device_whose_grace_is_over(
    api: APIClient, enrolled: Enrolled, listening: Coverage
) -> None:
    leaving(enrolled.device)
    beat(api, enrolled)
    sessions.sweep()
    assert stored(enrolled.device).presence == Presence.OFFLINE


@pytest.mark.parametrize("state", [left, silent, never, elsewhere, unheard])
def test_it_releases_no_command(
    api: APIClient, enrolled: Enrolled, alice: User, listening: Coverage, state: Any
) -> None:
    state(enrolled.device)
    commands.issue(enrolled.device, "ping", {}, by=alice)
    beat(api, enrolled)
    assert delivery.claim_due() == []
    assert Command.objects.get().state == "queued"


def test_it_does_not_stand_for_a_heartbeat_over_a_connection_that_has_sent_none(
    api: APIClient, enrolled: Enrolled, alice: User, listening: Coverage
) -> None:
    """An agent without receipts may not have subscribed yet."""
    connected(enrolled.device, capabilities={})
    BrokerSession.objects.update(started_at=timezone.now() - timedelta(seconds=5))
    commands.issue(enrolled.device, "ping", {}, by=alice)
    beat(api, enrolled)
    assert delivery.claim_due() == []


@pytest.mark.parametrize("capabilities", [None, {}, {"receipts": True}, {"tools": ["x"]}])
def test_it_neither_claims_receipts_for_a_connection_nor_takes_them_away(
    api: APIClient, enrolled: Enrolled, capabilities: Any
) -> None:
    gives = Connectivity.objects.giving_receipts().filter(device=enrolled.device)
    connected(enrolled.device)
    known = stored(enrolled.device)
    beat(api, enrolled, BODY | {"capabilities": capabilities})
    row = stored(enrolled.device)
    assert gives.exists()
    assert (row.capabilities, row.capabilities_at) == (known.capabilities, known.capabilities_at)
    Connectivity.objects.update(capabilities={}, capabilities_at=None)
    beat(api, enrolled, BODY | {"capabilities": capabilities})
    assert not gives.exists()
    assert "receipts" not in stored(enrolled.device).capabilities


def test_a_revoked_device_sends_no_heartbeat(api: APIClient, enrolled: Enrolled) -> None:
    Device.objects.update(revoked_at=timezone.now())
    assert beat(api, enrolled).status_code == 403


def test_a_device_that_was_recorded_elsewhere_may_report_before_it_moves(
    api: APIClient, group_a: Group, tenant_a: object
) -> None:
    ensure_platform_keys()
    device = record_existing(group_a, "old", by=None)
    Device.objects.filter(pk=device.pk).update(token_digest=hash_token("token"))
    answer = api.post(path_of(device), BODY, "json", HTTP_AUTHORIZATION="Bearer token")
    assert answer.status_code == 200
    assert stored(device).connection_type == "node-red"
