"""Figures and lists of many devices: right, and for the same number of queries however many."""

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from devices.models import BrokerSession, Connectivity, Device, Presence
from devices.models.device import named_status
from devices.presence.coverage import current_cutoffs
from devices.presence.rules import Status
from natsbridge.models import Coverage
from natsbridge.subscriber import status as status_row
from tenants.actions.tenants import create_group, create_organisation, create_tenant
from tenants.models import BrokerAccount, Group, Tenant, User
from tests.support.many import many_devices
from tests.support.people import authorization, enrol

COUNTING = ("metrics", "connections", "tenant/{}/metrics", "debug/subjects")
LISTS = ("agent-status", "tenant/{}/devices")


@pytest.fixture
def staff(db: None) -> dict[str, str]:
    return authorization(User.objects.create_superuser("staff"))


@pytest.fixture
def now(db: None) -> datetime:
    """A subscriber listens, and has listened long enough for every status."""
    at = timezone.now()
    status_row.beat("test", started_at=at, connected=True, details={})
    return at


def in_every_state(group: Group, now: datetime, each: int = 1) -> list[Device]:
    """`each` devices of each kind; the names say of which."""

    def ago(**length: int) -> datetime:
        return now - timedelta(**length)

    def heard(at: datetime) -> dict[str, Any]:
        return {"last_heartbeat": at, "last_seen_online": at}

    kinds: dict[str, dict[str, Any] | None] = {
        "online": {"presence": Presence.ONLINE, **heard(ago(seconds=10))},
        "online-busy": {"last_heartbeat": ago(minutes=30), "last_seen_online": ago(seconds=10)},
        "online-nobody-told": heard(ago(seconds=90)),
        "stale": {"presence": Presence.ONLINE, **heard(ago(minutes=5))},
        "offline-left": {"presence": Presence.OFFLINE, **heard(ago(seconds=20))},
        "offline-silent": {"presence": Presence.ONLINE, **heard(ago(hours=2))},
        "offline-never": {},
        "offline-revoked": {"presence": Presence.ONLINE, **heard(ago(seconds=10))},
        "offline-node-red": {"connection_type": "node-red"},
        "offline-over-http": {"connection_type": "node-red", "http_heartbeat_at": ago(seconds=5)},
        "offline-unheard": None,
    }
    devices = Device.objects.bulk_create(
        Device(
            group=group,
            tenant=group.tenant,
            name=f"{kind} {number}",
            revoked_at=now if kind == "offline-revoked" else None,
        )
        for kind in kinds
        for number in range(each)
    )
    known = ((device, kinds[device.name.split()[0]]) for device in devices)
    Connectivity.objects.bulk_create(
        Connectivity(device=device, **values) for device, values in known if values is not None
    )
    gone = {"name": "offline-archived", "archived_at": now, "revoked_at": now}
    Device.objects.bulk_create([Device(group=group, tenant=group.tenant, **gone)])
    return devices


def tenants_with_devices(count: int) -> Iterator[Group]:
    for number in range(count):
        organisation = create_organisation(create_tenant(name=f"Tenant {number}"), name="O")
        yield create_group(organisation, name="G")


@pytest.mark.parametrize("blind", [False, True])
@pytest.mark.parametrize("gap", [False, True])
def test_the_database_names_the_status_that_a_device_has(
    group_a: Group, now: datetime, blind: bool, gap: bool
) -> None:
    in_every_state(group_a, now)
    if gap:
        began = now - timedelta(minutes=20)
        Coverage.objects.update(gap_started=began, gap_ended=now - timedelta(seconds=30))
    if blind:
        Coverage.objects.update(last_beat=now - timedelta(minutes=1))
    cutoffs = current_cutoffs()
    rows = Device.objects.select_related("connectivity").annotate(named=named_status(cutoffs))
    found = {row.name: (row.named, row.status(cutoffs).value) for row in rows}
    assert all(named == status for named, status in found.values()), found
    by_query = {
        (name, status.value)
        for status in Status
        for (name,) in Device.objects.with_status(status, cutoffs).values_list("name")
    }
    assert by_query == {(name, status) for name, (_, status) in found.items()}
    if not (blind or gap):
        assert all(name.startswith(status.lower()) for name, (_, status) in found.items())


def test_the_metrics_of_a_tenant_count_each_device_once(
    api: APIClient, group_a: Group, device_b: Device, bob: User, now: datetime
) -> None:
    in_every_state(group_a, now, each=2)
    answer = api.get(f"/api/nats/tenant/{group_a.tenant_id}/metrics", **authorization(bob))
    body = answer.json()
    assert body.pop("timestamp") >= now.timestamp()
    activity = body["recent_activity"].pop("last_activity")
    assert activity == pytest.approx((now - timedelta(seconds=5)).timestamp(), abs=0.01)
    assert body == {
        "tenant_uuid": str(group_a.tenant_id),
        "tenant_name": "Acme",
        "device_stats": {
            "total_devices": 22,
            "nats_devices": 16,
            "online_devices": 6,
            "offline_devices": 14,
            "stale_devices": 2,
            "node_red_devices": 4,
            "unknown_devices": 0,
        },
        "connection_health": {
            "healthy_connections": 6,
            "stale_connections": 2,
            "failed_connections": 8,
        },
        # Within the minute: online, left, revoked, and over HTTP. Not the busy one's.
        "recent_activity": {"heartbeats_last_minute": 8, "heartbeats_last_hour": 14},
    }


def test_without_a_subscriber_every_device_is_unknown(
    api: APIClient, group_a: Group, bob: User, now: datetime
) -> None:
    in_every_state(group_a, now)
    Coverage.objects.update(last_beat=now - timedelta(minutes=1))
    answer = api.get(f"/api/nats/tenant/{group_a.tenant_id}/metrics", **authorization(bob)).json()
    stats = answer["device_stats"]
    assert (stats["unknown_devices"], stats["total_devices"]) == (11, 11)


def test_a_tenant_without_devices_has_metrics(
    api: APIClient, tenant_a: Tenant, bob: User, now: datetime
) -> None:
    answer = api.get(f"/api/nats/tenant/{tenant_a.pk}/metrics", **authorization(bob)).json()
    assert set(answer["device_stats"].values()) == {0}
    assert answer["recent_activity"]["last_activity"] is None


def test_the_metrics_of_the_platform_are_by_type_and_by_tenant(
    api: APIClient, group_a: Group, tenant_b: Tenant, staff: dict[str, str], now: datetime
) -> None:
    devices = in_every_state(group_a, now)
    for number, device in enumerate((devices[0], devices[0], devices[1])):
        BrokerSession.objects.create(
            server_id="N1", client_id=number, device=device, started_at=now
        )
    body = api.get("/api/nats/metrics", **staff).json()
    assert body.pop("timestamp") >= now.timestamp()
    assert body == {
        "connection_metrics": {
            "subscribers": 1,
            "is_connected": True,
            "connections": 3,
            "devices": 2,
        },
        "connectivity_stats": {
            "nats": stats(total=8, online=3, stale=1, offline=4),
            "node-red": stats(total=2, offline=2),
            "unknown": stats(total=1, offline=1),
        },
        "nats_stats": {
            "total_nats_devices": 8,
            "online_nats_devices": 3,
            "stale_nats_devices": 1,
            "recent_heartbeats": 3,
        },
        "tenant_metrics": [
            {
                "tenant_uuid": str(group_a.tenant_id),
                "tenant_name": "Acme",
                "total_devices": 11,
                "online_devices": 3,
            },
            {
                "tenant_uuid": str(tenant_b.pk),
                "tenant_name": "Beta",
                "total_devices": 0,
                "online_devices": 0,
            },
        ],
    }


def stats(**counts: int) -> dict[str, int]:
    names = ("total", "online", "stale", "offline", "unknown")
    return {f"{name}_devices": counts.get(name, 0) for name in names}


def test_connections_say_which_tenants_the_platform_hears(
    api: APIClient, group_a: Group, tenant_b: Tenant, staff: dict[str, str], now: datetime
) -> None:
    in_every_state(group_a, now)
    quiet = create_tenant(name="Gamma")
    BrokerAccount.objects.exclude(tenant=quiet).update(provisioned_at=now)
    Tenant.objects.filter(pk=tenant_b.pk).update(suspended_at=now)
    body = api.get("/api/nats/connections", **staff).json()
    assert body.pop("timestamp") >= now.timestamp()
    rows = [
        ("Acme", str(group_a.tenant_id), True, 11, True),
        ("Beta", str(tenant_b.pk), False, 0, True),
        ("Gamma", str(quiet.pk), False, 0, False),
    ]
    names = ("tenant_name", "tenant_uuid", "is_connected", "device_count", "has_jetstream")
    assert body == {
        "total_connections": 3,
        "connections": [dict(zip(names, row, strict=True)) for row in rows],
    }
    status_row.sign_off("test")
    body = api.get("/api/nats/connections", **staff).json()
    assert not any(each["is_connected"] for each in body["connections"])


def test_subjects_are_explained_by_examples(
    api: APIClient, group_a: Group, staff: dict[str, str], bob: User
) -> None:
    device = many_devices(group_a, 12)[0]
    body = api.get("/api/nats/debug/subjects", **staff).json()
    assert body["subject_pattern"] == "tenant.{tenant_uuid}.device.{device_uuid}.{message_type}"
    assert len(body["examples"]) == 10
    path = f"/api/nats/agent/{device.pk}/config"
    own = api.get(path, **authorization(bob)).json()["config"]["nats_config"]["subjects"]
    whole = f"tenant.{device.tenant_id}"
    assert body["examples"][0] == {
        "device_uuid": str(device.pk),
        "tenant_uuid": str(device.tenant_id),
        "subjects": own,
        "wildcards": {
            "device": f"{whole}.device.{device.pk}.>",
            "tenant_devices": f"{whole}.device.>",
            "tenant": f"{whole}.>",
        },
    }


def pages(api: APIClient, path: str, headers: dict[str, str]) -> Iterator[list[dict[str, Any]]]:
    following: str | None = path
    while following:
        body = api.get(following, **headers).json()
        assert set(body) == {"next", "previous", "results"}
        yield body["results"]
        following = body["next"]


@pytest.mark.parametrize("what", LISTS)
def test_a_list_pages_through_the_devices_that_a_person_may_see(
    api: APIClient, group_a: Group, device_b: Device, bob: User, now: datetime, what: str
) -> None:
    devices = in_every_state(group_a, now)
    headers = authorization(bob)
    path = f"/api/nats/{what.format(group_a.tenant_id)}"
    found = [row for page in pages(api, f"{path}?limit=4", headers) for row in page]
    assert [row["device_uuid"] for row in found] == [
        str(device.pk) for device in sorted(devices, key=lambda device: device.name)
    ]
    for row in found:
        status = f"/api/nats/device/{row['device_uuid']}/status"
        assert row == api.get(status, **headers).json()
    online = api.get(f"{path}?status=Online&ordering=-name", **headers).json()["results"]
    assert Counter(row["status"] for row in online) == {"Online": 3}


@pytest.mark.parametrize("what", LISTS)
def test_a_list_refuses_what_it_does_not_know(
    api: APIClient, device_a: Device, group_b: Group, bob: User, what: str
) -> None:
    path, headers = f"/api/nats/{what.format(device_a.tenant_id)}", authorization(bob)
    for query in ("page=2", "limit=0", "cursor=x", "ordering=secret", "status=Gone"):
        assert api.get(f"{path}?{query}", **headers).status_code == 400, query
    foreign, unknown = (
        api.get(f"{path}?group={group}", **headers) for group in (group_b.pk, uuid4())
    )
    assert (foreign.status_code, foreign.json()["type"]) == (400, unknown.json()["type"])


def test_another_tenants_devices_and_metrics_are_unknown(
    api: APIClient, device_a: Device, charlie: User
) -> None:
    headers = authorization(charlie)
    for what in ("devices", "metrics"):
        for tenant in (device_a.tenant_id, uuid4()):
            answer = api.get(f"/api/nats/tenant/{tenant}/{what}", **headers)
            assert (answer.status_code, answer.json()["type"]) == (404, "not-found")
    assert api.get("/api/nats/agent-status", **headers).json()["results"] == []


def test_figures_of_the_platform_are_for_staff_alone(
    api: APIClient, group_a: Group, alice: User
) -> None:
    for what in ("metrics", "connections", "debug/subjects"):
        path = f"/api/nats/{what}"
        assert api.get(path, **authorization(alice)).status_code == 403
        assert api.get(path, **enrol(group_a, what).authorization).status_code == 403
        assert api.get(path).status_code == 401


def test_many_devices_and_tenants_cost_no_more_queries_than_few(
    api: APIClient, group_a: Group, staff: dict[str, str], now: datetime
) -> None:
    in_every_state(group_a, now)
    addresses = [f"/api/nats/{what.format(group_a.tenant_id)}" for what in (*COUNTING, *LISTS)]
    # The first time they are recorded in the audit log.
    queries(api, addresses, staff)
    few = queries(api, addresses, staff)
    in_every_state(group_a, now, each=90)
    for group in tenants_with_devices(5):
        in_every_state(group, now, each=2)
    assert queries(api, addresses, staff) == few
    body = api.get("/api/nats/metrics", **staff).json()
    assert [each["total_devices"] for each in body["tenant_metrics"]] == [91 * 11, *[22] * 5]


def queries(
    api: APIClient, addresses: Sequence[str], headers: dict[str, str]
) -> list[tuple[str, int]]:
    counts = []
    for address in addresses:
        with CaptureQueriesContext(connection) as captured:
            answer = api.get(address, **headers)
        assert answer.status_code == 200, answer.content
        counts.append((address, len(captured)))
    return counts
