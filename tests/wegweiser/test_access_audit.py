"""What was refused and what staff read is in the audit, of whom it concerns, and bounded."""

import json
import time
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import OperationalError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from devices.commands import issue
from devices.models import Device
from tenants.access import coalesced, shared_counts
from tenants.access.records import STRANGER, Asked, Caller, record_refusal
from tenants.audit.owners import Owned, owner_of, owners_of
from tenants.audit.writer import Actor
from tenants.models import Action, ActorKind, AuditEntry, EnrollmentKey, Group, Role, Tenant, User
from tenants.origin import Origin, acting
from tests.support.people import authorization, enrol, logged_in, person

pytestmark = pytest.mark.usefixtures("redis_server")

HERE = "203.0.113.7"
WINDOW = 3600


@pytest.fixture(autouse=True)
def window(monkeypatch: pytest.MonkeyPatch) -> None:
    """So long a minute that no machine is too slow for it."""
    monkeypatch.setattr(shared_counts, "WINDOW_SECONDS", WINDOW)


@pytest.fixture
def sam(db: None) -> User:
    return User.objects.create_superuser("sam")


def entries(action: Action = Action.ACCESS_REFUSED) -> list[AuditEntry]:
    return list(AuditEntry.objects.filter(action=action).order_by("pk"))


def only(action: Action = Action.ACCESS_REFUSED) -> AuditEntry:
    [entry] = entries(action)
    return entry


def seen_by(user: User) -> list[AuditEntry]:
    return list(AuditEntry.objects.visible_to(user, Role.ADMIN).filter(action=only().action))


def test_a_lesser_role_is_refused_in_its_own_tenants_audit(
    api: APIClient, bob: User, alice: User, charlie: User, device_a: Device
) -> None:
    url = f"/api/nats/device/{device_a.pk}/revoke"
    answer = api.post(url, {}, format="json", REMOTE_ADDR=HERE, **authorization(bob))
    assert answer.status_code == 403
    entry = only()
    assert (entry.tenant_uuid, entry.device_uuid) == (device_a.tenant_id, device_a.pk)
    assert (entry.actor, entry.actor_id, entry.address, entry.via) == (
        *("bob", str(bob.pk), HERE),
        "api",
    )
    assert entry.target == "device anna-laptop"
    assert entry.detail == {
        "request": "POST /api/nats/device/<uuid:uuid>/revoke",
        "status": 403,
    }
    assert seen_by(alice) == [entry]
    assert seen_by(charlie) == []


@pytest.mark.parametrize("way", ["api", "resource", "page"])
def test_another_tenants_404_is_for_staff_alone(
    api: APIClient, alice: User, charlie: User, device_a: Device, way: str
) -> None:
    if way == "page":
        answer = logged_in(charlie).get(f"/devices/{device_a.pk}/")
    else:
        path = "nats/device/{}/status" if way == "api" else "devices/{}/reports"
        answer = api.get(f"/api/{path.format(device_a.pk)}", **authorization(charlie))
    assert answer.status_code == 404
    entry = only()
    assert (entry.tenant_uuid, entry.device_uuid) == (None, device_a.pk)
    assert entry.target == f"device {device_a.pk} of tenant {device_a.tenant_id}"
    assert (entry.actor, entry.detail["status"]) == ("charlie", 404)
    # The owner does not learn who else is a customer, nor Charlie's tenant that the device exists.
    assert seen_by(alice) == []
    assert seen_by(charlie) == []


def test_a_404_for_what_is_nobodys_or_ones_own_is_not_a_refusal(
    api: APIClient, charlie: User, device_b: Device
) -> None:
    for path in (f"device/{uuid4()}/status", "device/nothing", f"device/{device_b.pk}/nothing"):
        answer = api.get(f"/api/nats/{path}", **authorization(charlie))
        assert answer.status_code == 404
    client = logged_in(charlie)
    assert client.get(f"/devices/{device_b.pk}/commands/{uuid4()}/").status_code == 404
    assert client.get("/favicon.ico").status_code == 404
    assert entries() == []


def test_nobody_at_all_is_refused_in_the_platforms_audit_by_network(
    api: APIClient, device_a: Device
) -> None:
    for number in range(3):
        url = f"/api/nats/device/{device_a.pk}/status"
        answer = api.get(url, REMOTE_ADDR=f"203.0.113.{number}")
        assert answer.status_code == 401
    entry = only()
    assert (entry.tenant_uuid, entry.device_uuid, entry.target) == (None, None, "")
    assert (entry.actor_kind, entry.address) == (ActorKind.UNKNOWN, "203.0.113.0/24")


def test_a_wrong_token_is_one_row_and_not_two(api: APIClient, device_a: Device) -> None:
    wrong = {"HTTP_AUTHORIZATION": "Bearer wgd_wrong"}
    assert api.get(f"/api/nats/device/{device_a.pk}/tenant", **wrong).status_code == 401
    assert only(Action.API_REFUSED).device_uuid == device_a.pk
    assert entries() == []
    # No token of ours: the throttle does not count it, the audit does.
    basic = {"HTTP_AUTHORIZATION": "Basic YTpi"}
    assert api.get(f"/api/nats/device/{device_a.pk}/tenant", **basic).status_code == 401
    assert only().detail["status"] == 401


def test_a_device_that_asks_for_another_is_refused_in_its_tenants_audit(
    api: APIClient, group_a: Group, device_a: Device, device_b: Device
) -> None:
    asking = enrol(group_a, "curious")
    for device in (device_a, device_b):
        answer = api.get(f"/api/nats/device/{device.pk}/status", **asking.authorization)
        assert answer.status_code == 404
    own, foreign = entries()
    assert (own.tenant_uuid, own.target) == (group_a.tenant_id, "device anna-laptop")
    assert (own.actor_kind, own.actor_id) == (ActorKind.DEVICE, str(asking.device.pk))
    assert (foreign.tenant_uuid, foreign.device_uuid) == (None, device_b.pk)


def test_a_revoked_device_is_named(api: APIClient, group_a: Group) -> None:
    revoked = enrol(group_a, "stolen")
    Device.objects.update(revoked_at="2026-01-01T00:00Z")
    url = f"/api/nats/device/{revoked.device.pk}/credentials"
    assert api.get(url, **revoked.authorization).status_code == 403
    entry = only()
    assert (entry.tenant_uuid, entry.actor_id) == (group_a.tenant_id, str(revoked.device.pk))


def test_a_refused_page_of_the_admin_and_a_form_of_another_site_are_recorded(
    client: Client, alice: User, tenant_a: Tenant
) -> None:
    client.force_login(User.objects.create_user("stella", is_staff=True))
    assert client.get(f"/admin/tenants/tenant/{tenant_a.pk}/change/").status_code == 403
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(alice)
    assert strict.post(f"/tenant/{tenant_a.pk}/issue/").status_code == 403
    admin, form = entries()
    assert (admin.actor, admin.via, admin.tenant_uuid) == ("stella", "admin", None)
    assert (form.actor, form.via, form.tenant_uuid) == ("alice", "web", tenant_a.pk)


@pytest.mark.parametrize(
    ("page", "action"),
    [
        ("/api/nats/device/{device}/status", Action.STAFF_READ),
        ("/devices/{device}/", Action.STAFF_READ),
        ("/admin/devices/device/{device}/change/", Action.STAFF_READ),
        ("/admin/devices/command/{command}/change/", Action.STAFF_READ),
    ],
)
def test_staff_who_read_a_customers_data_are_in_its_audit(
    api: APIClient, sam: User, alice: User, device_a: Device, page: str, action: Action
) -> None:
    command = issue.issue(device_a, "ping", {}, by=alice)
    path = page.format(device=device_a.pk, command=command.pk)
    if path.startswith("/api"):
        answer = api.get(path, **authorization(sam))
    else:
        answer = logged_in(sam).get(path)
    assert answer.status_code == 200
    entry = only(action)
    assert (entry.tenant_uuid, entry.actor) == (device_a.tenant_id, "sam")
    assert entry.target.startswith(("device anna-laptop", "command "))


def test_lists_that_staff_read_are_the_platforms(sam: User, device_a: Device) -> None:
    client = logged_in(sam)
    for path in ("/", "/admin/devices/device/", "/account/", "/admin/", "/admin/tenants/user/"):
        assert client.get(path).status_code == 200
    read = entries(Action.STAFF_READ)
    assert [(entry.tenant_uuid, entry.detail["request"]) for entry in read] == [
        (None, "GET /"),
        (None, "GET /admin/devices/device/"),
    ]


def test_members_read_their_own_data_unrecorded(
    sam: User, alice: User, tenant_a: Tenant, device_a: Device
) -> None:
    assert logged_in(alice).get(f"/devices/{device_a.pk}/").status_code == 200
    member = person("sally", tenant_a, Role.VIEWER)
    User.objects.filter(pk=member.pk).update(is_staff=True, is_superuser=True)
    assert logged_in(member).get(f"/devices/{device_a.pk}/").status_code == 200
    assert entries(Action.STAFF_READ) == []


def test_a_secret_that_is_shown_is_in_the_audit_without_it(
    as_alice: Client, alice: User, group_a: Group
) -> None:
    posted = as_alice.post("/devices/add/", {"group": str(group_a.pk), "name": "June"})
    for status in (200, 410):
        page = as_alice.get(posted["Location"])
        assert page.status_code == status
    key = EnrollmentKey.objects.get()
    entry = only(Action.SECRET_READ)
    assert (entry.tenant_uuid, entry.actor) == (group_a.tenant_id, "alice")
    assert entry.target == f"enrolment key {key}"


def flood(number: int) -> None:
    """Refuse one request of a scanner, another object each time, and one from another network."""
    person = Caller(Actor(ActorKind.PERSON, "mallory", "7"), frozenset())
    theirs = Owned("device", str(UUID(int=number)), UUID(int=1))
    with acting(Origin("api", "", HERE)):
        record_refusal(person, Asked("GET device/<uuid:uuid>/status", 404, [theirs]))
    with acting(Origin("api", "", f"2001:db8:{number // 10_000:x}:{number % 10_000:x}::1")):
        record_refusal(STRANGER, Asked("GET device/<uuid:uuid>/status", 401))


def test_a_flood_costs_rows_by_the_minute(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand refusals, half of one person at ever new objects, half from new networks."""
    at = time.time() // WINDOW * WINDOW
    monkeypatch.setattr(shared_counts.time, "time", lambda: at)
    began = time.perf_counter()
    for number in range(5_000):
        flood(number)
    each = (time.perf_counter() - began) / 10_000
    print(f"{each * 1e6:.0f} us for each refusal")
    assert len(entries()) == 1 + shared_counts.ROWS_OF_EACH
    with CaptureQueriesContext(connection) as queries:
        flood(5_001)
    assert len(queries) == 0
    coalesced.flush(at + WINDOW + 1)
    mallory, others = entries()[1 + shared_counts.ROWS_OF_EACH :]
    assert (mallory.actor, mallory.count) == ("mallory", 5_000)
    assert others.count == 5_001 - shared_counts.ROWS_OF_EACH
    assert others.detail == coalesced.TOO_MANY
    assert sum(entry.count for entry in entries()) == 10_002


def test_a_person_who_tries_every_route_hides_nobody_else(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = time.time() // WINDOW * WINDOW
    monkeypatch.setattr(shared_counts.time, "time", lambda: at)
    tenant = UUID(int=1)
    for name, routes in (("mallory", 100), ("bob", 1)):
        person = Caller(Actor(ActorKind.PERSON, name), frozenset({tenant}))
        for number in range(routes):
            record_refusal(person, Asked(f"GET {number}", 403))
    coalesced.flush(at + WINDOW + 1)
    counts = [(entry.actor, entry.count) for entry in entries()]
    share = shared_counts.ROWS_OF_EACH
    assert counts == [("mallory", 1)] * share + [("bob", 1), ("mallory", 100 - share)]
    assert {entry.tenant_uuid for entry in entries()} == {tenant}


def test_all_together_have_a_bound(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_counts, "ROWS_A_MINUTE", 10)
    at = time.time() // WINDOW * WINDOW
    monkeypatch.setattr(shared_counts.time, "time", lambda: at)
    for number in range(30):
        device = Caller(Actor(ActorKind.DEVICE, f"{number}"), frozenset({UUID(int=number)}))
        record_refusal(device, Asked("GET", 403))
    assert len(entries()) == 10
    coalesced.flush(at + WINDOW + 1)
    assert (entries()[-1].count, entries()[-1].tenant_uuid) == (20, None)


def test_without_postgres_or_redis_the_answer_is_the_same(
    api: APIClient, charlie: User, device_a: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*args: object) -> None:
        raise OperationalError("away")

    header = authorization(charlie)
    with monkeypatch.context() as patch:
        patch.setattr(coalesced, "record_events", away)
        answer = api.get(f"/api/nats/device/{device_a.pk}/status", **header)
    assert answer.status_code == 404
    assert entries() == []
    coalesced.flush()
    assert only().actor == "charlie"


def test_no_entry_names_what_was_sent(api: APIClient, bob: User, device_a: Device) -> None:
    url = f"/api/nats/device/{device_a.pk}/revoke?token=wgw_in-the-query"
    api.post(url, {"reason": "s3cret-in-the-body"}, format="json", **authorization(bob))
    text = str(list(AuditEntry.objects.values()))
    assert only()
    assert "s3cret" not in text
    assert "in-the-query" not in text


def test_whose_each_object_is_takes_one_query(
    device_a: Device, device_b: Device, alice: User, django_assert_num_queries: Any
) -> None:
    command = issue.issue(device_a, "ping", {}, by=alice)
    wanted = [command.uuid, device_b.pk, uuid4(), device_a.group_id, device_a.tenant_id]
    with django_assert_num_queries(1):
        found = owners_of(wanted)
    assert [(owned.what, owned.tenant) for owned in found] == [
        ("command", device_a.tenant_id),
        ("device", device_b.tenant_id),
        ("group", device_a.tenant_id),
        ("tenant", device_a.tenant_id),
    ]
    assert owner_of(Device, "nonsense") is None
    assert owner_of(User, alice.pk) is None


def test_page_and_api_show_and_filter_by_what_was_refused(
    api: APIClient, bob: User, alice: User, device_a: Device
) -> None:
    api.post(f"/api/nats/device/{device_a.pk}/revoke", **authorization(bob))
    page = logged_in(alice).get("/audit/?action=access.refused").content.decode()
    for each in ("Access refused", "bob", "anna-laptop", "POST /api/nats/device/"):
        assert each in page
    url = f"/api/nats/tenant/{device_a.tenant_id}/audit"
    found = api.get(url, {"action": "access.refused"}, **authorization(alice)).json()
    assert [entry["actor"] for entry in found["entries"]] == ["bob"]
    assert (
        api.get(url, {"action": "access.staff_read"}, **authorization(alice)).json()["next"] is None
    )


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/nats/commands", {"command": "ping", "devices": ["{device}"]}),
        ("/api/nats/commands", {"command": "ping", "filter": {"group": "{group}"}}),
        ("/api/commands", {"command": "ping", "device": "{device}"}),
        ("/api/commands?device={device}", None),
    ],
)
def test_what_a_field_or_a_filter_names_of_another_tenant_is_for_staff_alone(
    api: APIClient, charlie: User, device_a: Device, path: str, body: dict[str, Any] | None
) -> None:
    ids = {"device": device_a.pk, "group": device_a.group_id}

    def ask(names: dict[str, Any]) -> int:
        header = authorization(charlie)
        if body is None:
            return int(api.get(path.format(**names), **header).status_code)
        text = json.dumps(body)
        for name, value in names.items():
            text = text.replace(f"{{{name}}}", str(value))
        return int(api.post(path, text, content_type="application/json", **header).status_code)

    assert ask({name: uuid4() for name in ids}) in (400, 404)
    assert entries() == []
    assert ask(ids) in (400, 404)
    entry = only()
    assert (entry.tenant_uuid, entry.actor) == (None, "charlie")
    assert entry.target.endswith(f"of tenant {device_a.tenant_id}")
