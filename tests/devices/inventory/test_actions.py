from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from devices.commands import issue as commands
from devices.enrolment.credentials import reinstate_device, revoke_device
from devices.errors import (
    CommandConflict,
    DeviceArchived,
    DeviceCannotMove,
    InventoryRefused,
    TooManyDevices,
)
from devices.inventory import custom_fields, notes, tags
from devices.inventory.archive import archive_device, unarchive_device
from devices.inventory.details import move_device, rename_device
from devices.inventory.rules import FieldType
from devices.live import frames
from devices.models import Device, DeviceTag, Note
from tenants.actions.limits import set_limits
from tenants.actions.tenants import create_group
from tenants.errors import NameTaken, StillInUse
from tenants.models import Action, AuditEntry, Credential, Group, Tenant, User
from tests.support.people import enrol


def audited(action: Action) -> Any:
    return AuditEntry.objects.get(action=action)


def fresh(device: Device) -> Device:
    return Device.objects.get(pk=device.pk)


def tag_names(device: Device) -> list[str]:
    return [tag.name for tag in fresh(device).tags.all()]


def test_a_device_is_renamed_and_moved_within_its_tenant(
    device_a: Device, group_b: Group, alice: User
) -> None:
    there = create_group(device_a.group.organisation, name="There")
    rename_device(device_a, "front desk", by=alice)
    move_device(device_a, there, by=alice)
    assert (fresh(device_a).name, fresh(device_a).group) == ("front desk", there)
    assert audited(Action.DEVICE_RENAMED).detail == {
        "name": {"from": "anna-laptop", "to": "front desk"}
    }
    rename_device(device_a, "front desk", by=alice)
    assert AuditEntry.objects.filter(action=Action.DEVICE_RENAMED).count() == 1
    with pytest.raises(DeviceCannotMove):
        move_device(device_a, group_b, by=alice)


def test_a_devices_tags_are_those_of_its_tenant_and_every_change_is_audited(
    device_a: Device, tenant_a: Tenant, tenant_b: Tenant, alice: User
) -> None:
    tags.create_tag(tenant_a, "Server", by=alice)
    tags.create_tag(tenant_a, "Berlin", by=alice)
    tags.create_tag(tenant_b, "Secret", by=None)
    tags.set_tags(device_a, ["server", " BERLIN "], by=alice)
    assert tag_names(device_a) == ["Berlin", "Server"]
    assert audited(Action.DEVICE_TAGGED).detail == {"added": ["Berlin", "Server"]}
    for unknown in ("Secret", "nonsense"):
        with pytest.raises(InventoryRefused, match=f'no tag "{unknown}"'):
            tags.set_tags(device_a, ["Server", unknown], by=alice)
    tags.set_tags(device_a, ["Server"], by=alice)
    assert tag_names(device_a) == ["Server"]
    tags.set_tags(device_a, ["Server"], by=alice)
    assert AuditEntry.objects.filter(action=Action.DEVICE_TAGGED).count() == 2


def test_a_tags_name_is_unique_in_its_tenant_whatever_its_case(
    tenant_a: Tenant, tenant_b: Tenant, device_a: Device, alice: User
) -> None:
    server = tags.create_tag(tenant_a, "Server", by=alice)
    tags.create_tag(tenant_b, "server", by=None)
    with pytest.raises(NameTaken, match='"SERVER" already'):
        tags.create_tag(tenant_a, "SERVER", by=alice)
    other = tags.create_tag(tenant_a, "Laptop", by=alice)
    with pytest.raises(NameTaken):
        tags.rename_tag(other, "server", by=alice)
    tags.rename_tag(server, "SERVER", by=alice)
    tags.set_tags(device_a, ["server"], by=alice)
    tags.delete_tag(server, by=alice)
    assert tag_names(device_a) == []
    assert audited(Action.TAG_DELETED).detail["devices"] == 1


def test_the_database_keeps_a_tag_of_another_tenant_off_a_device(
    device_a: Device, tenant_b: Tenant
) -> None:
    foreign = tags.create_tag(tenant_b, "Secret", by=None)
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    for tenant in (device_a.tenant, tenant_b):
        with pytest.raises(IntegrityError), transaction.atomic():
            DeviceTag.objects.create(tenant=tenant, device=device_a, tag=foreign)


def test_custom_fields_hold_values_of_their_type(
    device_a: Device, tenant_a: Tenant, alice: User
) -> None:
    custom_fields.create_field(tenant_a, "Price", FieldType.NUMBER, by=alice)
    site = custom_fields.create_field(
        tenant_a, "Site", FieldType.CHOICE, ["Berlin", "Bonn"], by=alice
    )
    custom_fields.set_values(device_a, {"price": "12.5", "SITE": "bonn"}, by=alice)
    assert set(fresh(device_a).custom_values.values()) == {12.5, "Bonn"}
    assert audited(Action.DEVICE_FIELDS).detail == {
        "fields": {"Price": {"from": None, "to": 12.5}, "Site": {"from": None, "to": "Bonn"}}
    }
    with pytest.raises(InventoryRefused, match='Price: "cheap" is not a number'):
        custom_fields.set_values(device_a, {"Price": "cheap"}, by=alice)
    with pytest.raises(InventoryRefused, match='no custom field "Colour"'):
        custom_fields.set_values(device_a, {"Colour": "red"}, by=alice)
    custom_fields.set_values(device_a, {"Price": None}, by=alice)
    assert fresh(device_a).custom_values == {site.key: "Bonn"}


def test_a_choice_that_devices_have_stays_until_they_have_another(
    device_a: Device, tenant_a: Tenant, alice: User
) -> None:
    site = custom_fields.create_field(
        tenant_a, "Site", FieldType.CHOICE, ["Berlin", "Bonn"], by=alice
    )
    custom_fields.set_values(device_a, {"Site": "Bonn"}, by=alice)
    with pytest.raises(StillInUse, match="1 devices have one of: Bonn"):
        custom_fields.change_field(site, choices=["Berlin"], by=alice)
    custom_fields.change_field(site, name="Place", choices=["Bonn"], by=alice)
    custom_fields.delete_field(site, by=alice)
    assert fresh(device_a).custom_values == {}
    assert audited(Action.FIELD_DELETED).detail["devices"] == 1


@pytest.mark.parametrize(
    ("name", "kind", "choices", "wrong"),
    [
        ("Site", FieldType.CHOICE, [], "at least one choice"),
        ("Site", FieldType.CHOICE, ["a", "A "], "text of its own"),
        ("Site", FieldType.TEXT, ["a"], "has no choices"),
        ("Site__gte", FieldType.TEXT, [], "two underscores"),
    ],
)
def test_a_field_that_cannot_work_is_not_defined(
    tenant_a: Tenant, name: str, kind: FieldType, choices: list[str], wrong: str
) -> None:
    with pytest.raises(InventoryRefused, match=wrong):
        custom_fields.create_field(tenant_a, name, kind, choices, by=None)


def test_a_note_outlives_its_authors_account_and_the_audit_does_not_quote_it(
    device_a: Device, alice: User
) -> None:
    note = notes.add_note(device_a, "The spare key is at the reception.", by=alice)
    alice.delete()
    kept = Note.objects.get()
    assert (kept.author, kept.author_name) == (None, "alice")
    notes.delete_note(note, by=User.objects.create_user("dora"))
    told = AuditEntry.objects.filter(action__startswith="note.")
    assert "reception" not in str(list(told.values("detail", "target")))


def test_an_archived_device_is_revoked_and_comes_back_with_its_token(
    group_a: Group, alice: User
) -> None:
    enrolled = enrol(group_a, "anna-laptop")
    device = enrolled.device
    assert enrolled.jwt
    archive_device(device, by=alice, reason="sold")
    archived = fresh(device)
    assert archived.archived_at == archived.revoked_at
    assert not Credential.objects.live().filter(device_uuid=device.pk).exists()
    assert not Device.objects.in_fleet().exists()
    with pytest.raises(CommandConflict, match="archived"):
        commands.issue(archived, "ping", {}, by=alice)
    with pytest.raises(DeviceArchived):
        reinstate_device(archived, by=alice)
    unarchive_device(archived, by=alice)
    assert fresh(device).refusal == ""
    assert Device.objects.holding_token(enrolled.token).get() == device
    actions = [Action.DEVICE_ARCHIVED, Action.DEVICE_UNARCHIVED]
    assert AuditEntry.objects.filter(action__in=actions).count() == 2


def test_what_was_revoked_before_it_was_archived_is_still_revoked_afterwards(
    device_a: Device, alice: User
) -> None:
    revoke_device(device_a, by=alice, reason="stolen")
    archive_device(device_a, by=alice)
    unarchive_device(device_a, by=alice)
    assert fresh(device_a).revoked_reason == "stolen"
    assert fresh(device_a).archived_at is None


def test_archived_devices_do_not_count_until_they_come_back(
    group_a: Group, tenant_a: Tenant, alice: User
) -> None:
    first = enrol(group_a, "first").device
    set_limits(tenant_a, by=None, max_devices=1)
    archive_device(first, by=alice)
    enrol(group_a, "second")
    with pytest.raises(TooManyDevices):
        unarchive_device(first, by=alice)
    assert fresh(first).archived_at is not None


def test_a_change_costs_the_same_queries_however_much_it_changes(
    device_a: Device, tenant_a: Tenant, alice: User
) -> None:
    names = [f"tag-{number}" for number in range(20)]
    for name in names:
        tags.create_tag(tenant_a, name, by=alice)
        custom_fields.create_field(tenant_a, name, FieldType.TEXT, by=alice)

    def queries(change: Any, given: Any) -> int:
        with CaptureQueriesContext(connection) as captured:
            change(device_a, given, by=alice)
        return len(captured)

    tags.set_tags(device_a, names[-1:], by=alice)
    assert queries(tags.set_tags, names[:2]) == queries(tags.set_tags, names[2:])
    few = queries(custom_fields.set_values, {names[0]: "x"})
    assert queries(custom_fields.set_values, dict.fromkeys(names, "y")) == few


def test_open_pages_are_told(
    device_a: Device,
    alice: User,
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: Any,
) -> None:
    told: list[list[object]] = []
    monkeypatch.setattr(frames, "push_details", lambda devices: told.append(list(devices)))
    with django_capture_on_commit_callbacks(execute=True):
        rename_device(device_a, "front desk", by=alice)
        notes.add_note(device_a, "Hello", by=alice)
    assert told == [[device_a.pk]] * 2


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_a_name_that_postgres_cannot_store_is_an_unknown_one(device_a: Device, name: str) -> None:
    with pytest.raises(InventoryRefused, match="no custom field"):
        custom_fields.set_values(device_a, {name: "x"}, by=None)
    with pytest.raises(InventoryRefused, match="no tag"):
        tags.set_tags(device_a, [name], by=None)
