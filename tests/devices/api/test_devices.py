"""Devices by the API: what is listed, and who may change what."""

import json
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.test import APIClient

from devices.enrolment.credentials import revoke_device
from devices.inventory.custom_fields import create_field, set_values
from devices.inventory.notes import add_note
from devices.inventory.rules import FieldType
from devices.inventory.tags import create_tag, set_tags
from devices.models import Connectivity, Device, Note, Presence
from natsbridge.models import Coverage
from tenants.actions.tenants import create_group
from tenants.models import Action, AuditEntry, Group, Role, Tenant, User
from tests.support.many import many_devices
from tests.support.people import person
from tests.tenants.api.test_places import caller, results

DEVICES = "/api/devices/"


@pytest.fixture
def as_admin(alice: User) -> APIClient:
    return caller(alice)


@pytest.fixture
def as_operator(tenant_a: Tenant) -> APIClient:
    return caller(person("olga", tenant_a, Role.OPERATOR))


@pytest.fixture
def described(tenant_a: Tenant, device_a: Device) -> Device:
    """A device with a tag and a value."""
    for name in ("Server", "Berlin"):
        create_tag(tenant_a, name, by=None)
    create_field(tenant_a, "Price", FieldType.NUMBER, by=None)
    create_field(tenant_a, "Site", FieldType.CHOICE, ["Berlin", "Bonn"], by=None)
    set_tags(device_a, ["Server"], by=None)
    set_values(device_a, {"Price": 12.5}, by=None)
    return device_a


def address(device: Device, more: str = "") -> str:
    return f"{DEVICES}{device.pk}/{more}"


def test_a_device_is_shown_with_all_that_people_record_about_it(
    bob: User, described: Device, device_b: Device, listening: Coverage
) -> None:
    now = timezone.now()
    Connectivity.objects.filter(device=described).update(
        last_seen_online=now,
        agent_version="1.2.3",
        presence=Presence.ONLINE,
        presence_at=now,
        presence_by="connect",
        connection_info={"system_info": {"hostname": "win-7", "platform": "Windows"}},
    )
    api = caller(bob, Role.VIEWER)
    shown = api.get(address(described)).json()
    assert results(api.get(DEVICES)) == [shown]
    expected = {
        "uuid": str(described.pk),
        "tenant": str(described.tenant_id),
        "organisation": str(described.group.organisation_id),
        "group": str(described.group_id),
        "name": "anna-laptop",
        "status": "Online",
        "presence": "online",
        "hostname": "win-7",
        "platform": "Windows",
        "connection_type": "nats",
        "agent_version": "1.2.3",
        "tags": ["Server"],
        "custom_fields": {"Price": 12.5},
        "archived_at": None,
        "revoked_at": None,
    }
    assert {name: shown[name] for name in expected} == expected
    assert shown["created_at"].endswith("Z")
    assert shown["last_seen_online"].startswith(f"{now:%Y-%m-%dT%H:%M:%S}")
    assert api.get(address(device_b)).status_code == 404


def test_a_list_is_filtered_searched_and_ordered(
    as_admin: APIClient, described: Device, group_a: Group
) -> None:
    other = Device.objects.create(group=group_a, name="berta")

    def listed(**asked: Any) -> list[str]:
        return [row["name"] for row in results(as_admin.get(DEVICES, asked))]

    assert listed() == ["anna-laptop", "berta"]
    assert listed(ordering="-name") == ["berta", "anna-laptop"]
    assert listed(search="ann lap") == listed(tag="server") == ["anna-laptop"]
    assert listed(search=str(other.pk)[:18]) == ["berta"]
    assert listed(**{"field.price__gte": "12"}) == ["anna-laptop"]
    assert listed(**{"field.Price__empty": "true"}) == ["berta"]
    assert listed(group=str(group_a.pk), tag=["Server", "Berlin"]) == []
    revoke_device(other, by=None, reason="lost")
    assert listed(revoked="true") == ["berta"]


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"tag": "nonsense"}, "tag"),
        ({"field.Colour": "red"}, "field.Colour"),
        ({"field.Price": "cheap"}, "field.Price"),
        ({"field.Price": "a\0b"}, "field.Price"),
        ({"field.a\0b": "1"}, "field.a\ufffdb"),
        ({"status": "Odd"}, "status"),
        ({"archived": "maybe"}, "archived"),
        ({"q": "anna"}, "q"),
        ({"colour": "red"}, "colour"),
        ({"group": str(uuid4())}, "group"),
        ({"ordering": "status"}, "ordering"),
    ],
)
def test_a_parameter_that_is_wrong_or_unknown_is_named(
    as_admin: APIClient, described: Device, asked: dict[str, str], field: str
) -> None:
    answer = as_admin.get(DEVICES, asked)
    assert (answer.status_code, answer.json()["type"]) == (400, "invalid")
    assert [error["field"] for error in answer.json()["errors"]] == [field]


def test_an_operator_renames_tags_and_describes_and_an_admin_moves(
    as_operator: APIClient, as_admin: APIClient, described: Device, group_a: Group
) -> None:
    body = {"name": "desk", "tags": ["berlin"], "custom_fields": {"site": "bonn", "Price": None}}
    changed = as_operator.patch(address(described), body, "json")
    assert changed.status_code == 200
    assert changed.json()["name"] == "desk"
    assert changed.json()["tags"] == ["Berlin"]
    assert changed.json()["custom_fields"] == {"Site": "Bonn"}
    assert changed.json() == as_operator.get(address(described)).json()
    there = create_group(group_a.organisation, name="There")
    move = {"group": str(there.pk)}
    assert as_operator.patch(address(described), move, "json").status_code == 403
    moved = as_admin.patch(address(described), move, "json")
    assert (moved.status_code, moved.json()["group"]) == (200, str(there.pk))
    told = AuditEntry.objects.filter(device_uuid=described.pk).values_list("action", flat=True)
    wanted = {Action.DEVICE_RENAMED, Action.DEVICE_TAGGED, Action.DEVICE_FIELDS}
    assert {*wanted, Action.DEVICE_MOVED} <= set(told)


@pytest.mark.parametrize(
    ("body", "kind", "named"),
    [
        ({}, "invalid", "at least one field"),
        ({"colour": "red"}, "invalid", "colour"),
        ({"status": "Online"}, "invalid", "status"),
        ({"tenant": str(uuid4())}, "invalid", "tenant"),
        ({"name": ""}, "invalid", "name"),
        ({"name": "a\u202eb"}, "invalid", "name"),
        ({"tags": "Server"}, "invalid", "tags"),
        ({"tags": ["x"] * 51}, "invalid", "tags"),
        ({"name": "new", "tags": ["nonsense"]}, "inventory-refused", 'no tag "nonsense"'),
        ({"name": "new", "custom_fields": {"Price": "cheap"}}, "inventory-refused", "Price:"),
        ({"custom_fields": {"Price": [1]}}, "invalid", "custom_fields.Price"),
        ({"custom_fields": {"a\0b": 1}}, "inventory-refused", "no custom field"),
        ('{"custom_fields": {"\\ud800": 1}}', "inventory-refused", "no custom field"),
        ('{"custom_fields": {"Price": 1e400}}', "inventory-refused", "A number between"),
        ({"group": str(uuid4())}, "invalid", "group"),
    ],
)
def test_a_change_that_is_wrong_changes_nothing_and_says_why(
    as_admin: APIClient, described: Device, body: Any, kind: str, named: str
) -> None:
    sent = body if isinstance(body, str) else json.dumps(body)
    answer = as_admin.patch(address(described), sent, content_type="application/json")
    assert (answer.status_code, answer.json()["type"]) == (400, kind)
    assert named in answer.json()["detail"]
    unchanged = as_admin.get(address(described)).json()
    assert (unchanged["name"], unchanged["tags"]) == ("anna-laptop", ["Server"])


def test_another_tenants_group_is_an_unknown_one(
    as_admin: APIClient, described: Device, group_b: Group
) -> None:
    foreign = as_admin.patch(address(described), {"group": str(group_b.pk)}, "json")
    [error] = foreign.json()["errors"]
    assert error == {"field": "group", "detail": f"There is no group {group_b.pk}."}


def test_an_archived_device_leaves_the_list_and_comes_back(
    as_admin: APIClient, described: Device
) -> None:
    archived = as_admin.post(address(described, "archive"), {"reason": "sold"}, "json")
    assert archived.status_code == 200
    assert archived.json()["archived_reason"] == "sold"
    assert archived.json()["status"] == "Unknown"
    assert results(as_admin.get(DEVICES)) == []
    [listed] = results(as_admin.get(DEVICES, {"archived": "true"}))
    assert listed["uuid"] == str(described.pk)
    back = as_admin.post(address(described, "unarchive/"), {}, "json")
    assert (back.json()["archived_at"], back.json()["revoked_at"]) == (None, None)
    wrong = as_admin.post(address(described, "archive"), {"why": "sold"}, "json")
    assert wrong.status_code == 400


def test_a_device_is_deleted_by_an_admin_of_its_tenant(
    as_admin: APIClient, as_operator: APIClient, charlie: User, described: Device
) -> None:
    assert as_operator.delete(address(described)).status_code == 403
    assert caller(charlie).delete(address(described)).status_code == 404
    assert as_admin.delete(address(described)).status_code == 204
    assert not Device.objects.filter(pk=described.pk).exists()


def test_notes_are_a_log_and_everybody_deletes_their_own(
    as_operator: APIClient, as_admin: APIClient, bob: User, charlie: User, described: Device
) -> None:
    notes = address(described, "notes/")
    written = as_operator.post(notes, {"text": "The key is at the reception."}, "json")
    assert written.status_code == 201
    assert written.json()["author"] == "olga"
    by_alice = as_admin.post(notes, {"text": "Second"}, "json").json()
    assert next(row["text"] for row in results(as_operator.get(notes))) == "Second"
    assert as_operator.delete(f"{notes}{by_alice['uuid']}").status_code == 403
    assert as_operator.delete(f"{notes}{written.json()['uuid']}").status_code == 204
    assert as_admin.post(notes, {"text": "x" * 4001}, "json").status_code == 400
    reading = caller(bob)
    assert len(results(reading.get(notes))) == 1
    assert reading.post(notes, {"text": "x"}, "json").status_code == 403
    assert caller(charlie).get(notes).status_code == 404
    assert caller(charlie).post(notes, {"text": "x"}, "json").status_code == 404
    assert as_admin.get(f"{DEVICES}{'-' * 36}/notes/").status_code == 404
    assert Note.objects.count() == 1


def test_a_note_is_found_on_its_own_device_only(
    as_admin: APIClient, described: Device, group_a: Group, alice: User
) -> None:
    other = Device.objects.create(group=group_a, name="other")
    note = add_note(described, "Hello", by=alice)
    assert as_admin.get(address(described, f"notes/{note.pk}")).status_code == 200
    assert as_admin.get(address(other, f"notes/{note.pk}")).status_code == 404


def test_a_list_costs_the_same_queries_whatever_its_length(
    as_admin: APIClient, described: Device, group_a: Group
) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            results(as_admin.get(DEVICES, {"tag": "Server", "field.Price__gte": "1"}))
        return len(captured)

    queries()
    few = queries()
    for device in many_devices(group_a, 30):
        set_tags(device, ["Server", "Berlin"], by=None)
        set_values(device, {"Price": 7, "Site": "Bonn"}, by=None)
    assert queries() == few <= 12
