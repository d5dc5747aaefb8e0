"""The contract of the device endpoints, and who may call each."""

import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django.fixtures import Settings
from rest_framework.test import APIClient

from devices.api.nats.commands import CommandAnswer
from devices.api.nats.devices import DeviceStatusAnswer, RecentMetricsAnswer
from devices.api.nats.health import HealthAnswer
from devices.api.nats.registration import DeviceCredentialsAnswer, DeviceTenantAnswer
from devices.commands import issue as commands
from devices.models import Command, Connectivity, Device
from devices.presence.coverage import current_cutoffs
from devices.presence.rules import Status
from devices.telemetry import ring_buffers
from devices.telemetry.ring_buffers import Point
from natsbridge.identity.jwt import decode_jwt
from natsbridge.subscriber import status as status_row
from tenants.actions.keys import create_enrollment_key
from tenants.broker.accounts import ensure_platform_keys
from tenants.models import Group, Role, User
from tests.support.people import Enrolled, authorization, enrol


@pytest.fixture(autouse=True)
def platform_keys(db: None) -> None:
    ensure_platform_keys()


@pytest.fixture
def enrolled(group_a: Group) -> Enrolled:
    return enrol(group_a, "anna-laptop")


@pytest.fixture
def device(enrolled: Enrolled) -> Device:
    return enrolled.device


@pytest.fixture
def listening(db: None) -> None:
    status_row.beat("test", started_at=timezone.now(), connected=True, details={})


OLD_TENANT = "/api/device/{}/tenant"


def url(device: Device, what: str) -> str:
    """`what` is what stands behind the device, or a whole path with a place for it."""
    return what.format(device.pk) if "{}" in what else f"/api/nats/device/{device.pk}/{what}"


READS = ("tenant", "status", "metrics/recent", OLD_TENANT)


@pytest.mark.parametrize("what", READS)
def test_a_viewer_reads_what_charlie_and_strangers_may_not(
    api: APIClient, device: Device, bob: User, charlie: User, redis_server: object, what: str
) -> None:
    path = url(device, what)
    assert api.get(path, **authorization(bob)).status_code == 200
    assert api.get(path, **authorization(charlie)).status_code == 404
    assert api.get(path).status_code == 401
    assert api.get(path, HTTP_AUTHORIZATION="Token nonsense").status_code == 401
    assert api.get(path, HTTP_AUTHORIZATION="Token \xff\xfe").status_code == 401
    assert api.get(path, HTTP_AUTHORIZATION="Bearer nonsense").status_code == 401


@pytest.mark.parametrize("what", [*READS, "credentials"])
def test_a_device_reads_its_own_and_no_other(
    api: APIClient, enrolled: Enrolled, group_a: Group, redis_server: object, what: str
) -> None:
    sibling = enrol(group_a, "sibling")
    path = url(enrolled.device, what)
    assert api.get(path, **enrolled.authorization).status_code == 200
    assert api.get(path, **sibling.authorization).status_code == 404


def test_nobody_but_the_device_reads_its_credentials(
    api: APIClient, device: Device, alice: User, charlie: User
) -> None:
    assert api.get(url(device, "credentials"), **authorization(alice)).status_code == 403
    assert api.get(url(device, "credentials"), **authorization(charlie)).status_code == 404
    assert api.get(url(device, "credentials")).status_code == 401


def test_credentials_are_a_fresh_jwt_for_the_registered_key(
    api: APIClient, enrolled: Enrolled
) -> None:
    answer = api.get(url(enrolled.device, "credentials"), **enrolled.authorization).json()
    assert answer["device_uuid"] == str(enrolled.device.pk)
    assert decode_jwt(answer["credentials"]["jwt"])["sub"] == enrolled.key.public
    assert answer["credentials"]["nats_url"].startswith("nats://")


def test_the_tenant_endpoint_says_where_a_device_belongs(
    api: APIClient, device: Device, bob: User
) -> None:
    headers = authorization(bob)
    answer = api.get(url(device, "tenant"), **headers).json()
    assert api.get(url(device, OLD_TENANT), **headers).json() == answer
    access = {name: answer.pop(name) for name in ("nats_urls", "inbox_prefix", "subjects")}
    assert access["inbox_prefix"] == f"_INBOX_{device.pk}"
    assert answer == {
        "success": True,
        "device_uuid": str(device.pk),
        "tenant_uuid": str(device.tenant_id),
        "group_uuid": str(device.group_id),
        "org_uuid": str(device.group.organisation_id),
        "nats_server": access["nats_urls"][0],
        "nats_url": access["nats_urls"][0],
    }


def test_an_operator_commands_and_a_viewer_may_not(
    api: APIClient, device: Device, alice: User, bob: User, charlie: User, redis_server: object
) -> None:
    body = {"command": "ping", "parameters": {"a": 1}}
    path = url(device, "command")
    assert api.post(path, body, "json", **authorization(bob)).status_code == 403
    assert api.post(path, body, "json", **authorization(charlie)).status_code == 404
    assert api.post(path, body, "json").status_code == 401
    weak = authorization(alice, Role.VIEWER)
    assert api.post(path, body, "json", **weak).status_code == 403
    answer = api.post(path, body, "json", **authorization(alice))
    assert answer.status_code == 202
    row = Command.objects.get()
    assert answer.json() == {
        "success": True,
        "command_id": str(row.uuid),
        "status_url": f"http://testserver/api/nats/command/{row.uuid}",
    }


def test_a_device_commands_nobody_not_even_itself(api: APIClient, enrolled: Enrolled) -> None:
    answer = api.post(
        url(enrolled.device, "command"), {"command": "ping"}, "json", **enrolled.authorization
    )
    assert answer.status_code == 403


@pytest.mark.parametrize(
    "body",
    [{}, {"command": ""}, {"command": "a b"}, {"command": "ping", "parameters": [1]}, [], "x"],
)
def test_a_command_that_is_not_one_is_refused(
    api: APIClient, device: Device, alice: User, body: object
) -> None:
    answer = api.post(url(device, "command"), body, "json", **authorization(alice))
    assert answer.status_code == 400
    assert not Command.objects.exists()


def test_a_commands_state_is_for_its_tenant_only(
    api: APIClient, enrolled: Enrolled, alice: User, bob: User, charlie: User, redis_server: object
) -> None:
    row = commands.issue(enrolled.device, "ping", {"n": 1}, by=alice)
    path = f"/api/nats/command/{row.uuid}"
    answer = api.get(path, **authorization(bob)).json()
    assert answer["state"] == "queued"
    assert answer["parameters"] == {"n": 1}
    assert answer["created_at"] == pytest.approx(row.created_at.timestamp(), abs=0.01)
    assert [answer[name] for name in ("sent_at", "finished_at", "result", "error")] == [None] * 4
    assert api.get(path, **authorization(charlie)).status_code == 404
    assert api.get(path, **enrolled.authorization).status_code == 404
    assert api.get(path).status_code == 401


@pytest.mark.parametrize(
    ("silent_for", "expected"),
    [(10, "Online"), (300, "Stale"), (900, "Offline"), (None, "Offline")],
)
def test_status_follows_the_last_sign_of_life(
    api: APIClient,
    device: Device,
    bob: User,
    listening: None,
    silent_for: int | None,
    expected: str,
) -> None:
    seen = None if silent_for is None else timezone.now() - timedelta(seconds=silent_for)
    Connectivity.objects.filter(device=device).update(last_heartbeat=seen, last_seen_online=seen)
    answer = api.get(url(device, "status"), **authorization(bob)).json()
    assert answer["status"] == expected
    assert answer["is_online"] is (expected == "Online")
    assert answer["last_heartbeat"] == (pytest.approx(seen.timestamp(), abs=0.01) if seen else None)


def test_status_is_unknown_when_nobody_listens(api: APIClient, device: Device, bob: User) -> None:
    Connectivity.objects.filter(device=device).update(last_seen_online=timezone.now())
    assert api.get(url(device, "status"), **authorization(bob)).json()["status"] == "Unknown"


def said_of(device: Device) -> dict[str, Any]:
    """What pages and the API say, after it was told by all that look at rows in bulk."""
    found = Device.objects.select_related("connectivity").get(pk=device.pk)
    cutoffs = current_cutoffs()
    shown = DeviceStatusAnswer(found, context={"cutoffs": cutoffs}).data
    counted = [each for each in Status if Device.objects.with_status(each, cutoffs).exists()]
    assert [each.value for each in counted] == [shown["status"]]
    return shown


@pytest.mark.parametrize(
    ("case", "status", "presence"),
    [
        ("connected", "Online", "online"),
        ("connected, a little silent", "Stale", "online"),
        ("connected, long silent", "Offline", "offline"),
        ("disconnected", "Offline", "offline"),
        ("connected, then revoked", "Offline", "offline"),
        ("never heard", "Offline", "offline"),
        ("heard, and nobody told of its connection", "Online", "online"),
        ("connected, and nobody listens", "Unknown", None),
        ("disconnected, and nobody listens", "Unknown", None),
        ("revoked, and nobody listens", "Unknown", None),
    ],
)
def test_status_and_presence_say_the_same_wherever_they_are_shown(
    api: APIClient,
    client: Client,
    redis_server: object,
    device: Device,
    bob: User,
    case: str,
    status: str,
    presence: str | None,
) -> None:
    now = timezone.now()
    came = now - timedelta(hours=2)
    if "nobody listens" not in case:
        status_row.beat("test", started_at=now, connected=True, details={})
    silent = {"a little": 300, "long": 900}
    silent_for = next((silent[word] for word in silent if word in case), 10)
    gone = case.startswith("disconnected")
    Connectivity.objects.filter(device=device).update(
        presence="" if "heard" in case else "offline" if gone else "online",
        presence_at=None if "heard" in case else came,
        presence_by="" if "heard" in case else "disconnect" if gone else "connect",
        last_seen_online=None if "never" in case else now - timedelta(seconds=silent_for),
    )
    if "revoked" in case:
        Device.objects.filter(pk=device.pk).update(revoked_at=now)
    said = api.get(url(device, "status"), **authorization(bob)).json()
    assert (said["status"], said["presence"]) == (status, presence)
    told = (status in ("Online", "Stale") and "heard" not in case) or (gone and presence)
    assert said["reported_by"] == (("disconnect" if gone else "connect") if told else None)
    if presence is None:
        assert said["presence_since"] is None
    elif "revoked" in case:
        assert said["presence_since"] == pytest.approx(now.timestamp(), abs=0.01)
    elif "long silent" in case:
        assert said["presence_since"] == said["last_seen_online"]
    assert said_of(device) == said
    client.force_login(bob)
    for page in ("/", f"/devices/{device.pk}/"):
        text = client.get(page).content.decode()
        came_or_left = [
            word
            for word in ("came online", "Came online", "went offline", "Went offline")
            if word in text
        ]
        assert bool(came_or_left) is bool(told), page
        if told:
            assert ("ame" in came_or_left[0]) is (presence == "online")


def test_recent_metrics_are_oldest_first_filtered_and_limited(
    api: APIClient, device: Device, bob: User, redis_server: object
) -> None:
    ring_buffers.append({(device.pk, "cpu_percent"): [Point(n, n / 2) for n in range(5)]})
    ring_buffers.append({(device.pk, "uptime"): [Point(1, 1.0)]})
    path, key = url(device, "metrics/recent"), authorization(bob)
    assert set(api.get(path, **key).json()["metrics"]) == {"cpu_percent", "uptime"}
    answer = api.get(path, {"metric": "cpu_percent", "limit": 2}, **key).json()
    assert answer["metrics"] == {
        "cpu_percent": [{"timestamp": 3, "value": 1.5}, {"timestamp": 4, "value": 2.0}]
    }
    assert api.get(path, {"metric": "other"}, **key).json()["metrics"] == {"other": []}
    for bad in ({"limit": "x"}, {"limit": 0}, {"metric": "a b"}):
        assert api.get(path, bad, **key).status_code == 400


def test_metrics_without_redis_are_a_503_and_not_a_traceback(
    api: APIClient, device: Device, bob: User, redis_server: object
) -> None:
    redis_server.stop()  # type: ignore[attr-defined]
    try:
        answer = api.get(url(device, "metrics/recent"), **authorization(bob))
    finally:
        redis_server.start()  # type: ignore[attr-defined]
    assert answer.status_code == 503
    assert answer["Content-Type"] == "application/problem+json"


def test_health_is_for_anyone_and_says_what_is_missing(
    api: APIClient, db: None, redis_server: object
) -> None:
    answer = api.get("/api/nats/health")
    assert answer.status_code == 503
    assert answer.json()["components"] == {
        "nats_server": "unknown",
        "database": "ok",
        "redis": "ok",
        "throttle": "ok",
        "subscriber": "down",
    }
    status_row.beat("test", started_at=timezone.now(), connected=False, details={})
    assert api.get("/api/nats/health").json()["components"]["nats_server"] == "down"
    status_row.beat("test", started_at=timezone.now(), connected=True, details={})
    answer = api.get("/api/nats/health")
    assert (answer.status_code, answer.json()["status"]) == (200, "healthy")


def test_what_does_not_exist_is_a_problem_in_json(api: APIClient, alice: User) -> None:
    missing = f"/api/nats/device/{uuid.uuid4()}/status"
    strange = "/api/device/not-a-uuid/tenant"
    for path in (missing, "/api/nats/device/not-a-uuid/status", "/api/nats/nothing", strange):
        answer = api.get(path, **authorization(alice))
        assert answer.status_code == 404
        assert answer["Content-Type"] == "application/problem+json"


def test_the_documentation_describes_every_endpoint_and_its_answer(
    api: APIClient, db: None
) -> None:
    answer = api.get("/api/schema/", HTTP_ACCEPT="application/vnd.oai.openapi+json")
    assert answer.status_code == 200
    paths = answer.json()["paths"]
    for path, operations in paths.items():
        for operation in operations.values():
            for code, described in operation["responses"].items():
                assert code in ("204", "304") or "content" in described, f"{path} {code}"


def test_the_documentation_says_how_people_and_devices_authenticate(
    api: APIClient, db: None
) -> None:
    schema = api.get("/api/schema/", HTTP_ACCEPT="application/vnd.oai.openapi+json").json()
    assert "Token KEY" in schema["info"]["description"]
    schemes = schema["components"]["securitySchemes"]
    assert (schemes["Person"]["type"], schemes["Person"]["name"]) == ("apiKey", "Authorization")
    assert (schemes["Device"]["type"], schemes["Device"]["scheme"]) == ("http", "bearer")
    paths = schema["paths"]
    assert {"Person": []} in paths["/api/nats/command/{uuid}"]["get"]["security"]
    assert {"Device": []} in paths["/api/nats/device/{uuid}/credentials"]["get"]["security"]
    assert not any(paths["/api/nats/health"]["get"].get("security", []))


def test_answers_have_the_fields_that_the_documentation_says(
    api: APIClient, enrolled: Enrolled, alice: User, redis_server: object
) -> None:
    command = commands.issue(enrolled.device, "ping", {}, by=alice)
    people, device = authorization(alice), enrolled.authorization
    documented = {
        url(enrolled.device, "tenant"): (people, DeviceTenantAnswer),
        url(enrolled.device, "credentials"): (device, DeviceCredentialsAnswer),
        url(enrolled.device, "status"): (people, DeviceStatusAnswer),
        url(enrolled.device, "metrics/recent"): (people, RecentMetricsAnswer),
        f"/api/nats/command/{command.uuid}": (people, CommandAnswer),
        "/api/nats/health": ({}, HealthAnswer),
    }
    for path, (headers, answer) in documented.items():
        assert api.get(path, **headers).json().keys() == answer().fields.keys(), path


def test_an_old_client_library_gets_one_address_and_ours_gets_them_all(
    api: APIClient, group_a: Group, alice: User, settings: Settings
) -> None:
    addresses = ["tls://one.example:4222", "wss://two.example/nats"]
    settings.AGENT_NATS_URL = ",".join(addresses)
    _, key = create_enrollment_key(group_a, name="office")
    body = {"groupuuid": str(group_a.pk), "devicename": "old", "enrollment_key": key}
    registered = api.post("/api/nats/agent/register", body, "json").json()
    device = {"HTTP_AUTHORIZATION": f"Bearer {registered['device_token']}"}
    path = "/api/nats/{}/" + registered["deviceuuid"]
    told = [
        registered["nats_credentials"],
        api.post(path.format("agent") + "/upgrade", **device).json()["nats_credentials"],
        api.get(path.format("device") + "/credentials", **device).json()["credentials"],
        api.get(path.format("device") + "/tenant", **device).json(),
    ]
    assert told[3]["nats_server"] == addresses[0]
    for each in told:
        assert (each["nats_url"], each["nats_urls"]) == (addresses[0], addresses)
        assert each["inbox_prefix"] == told[0]["inbox_prefix"]
        assert each["subjects"] == told[0]["subjects"]
    tenant = f"/api/nats/tenant/{group_a.tenant_id}/credentials"
    issued = api.post(tenant, {"kind": "password"}, "json", **authorization(alice)).json()
    assert (issued["nats_url"], issued["nats_urls"]) == (addresses[0], addresses)
