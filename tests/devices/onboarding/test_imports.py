"""Imports of devices: all or nothing, under the UUIDs they have, and undone."""

from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django.fixtures import Settings

from devices.errors import DeviceImportRefused, TooManyDevices
from devices.models import Connectivity, Device, DeviceImport, Onboarding
from devices.onboarding import imports, rules
from devices.onboarding.imports import ImportReport, examine, import_devices, undo_import
from devices.onboarding.upgrades import mark_migrated
from tenants.actions.tenants import create_group, create_organisation
from tenants.models import Action, AuditEntry, Group, Tenant, User
from tests.devices.onboarding.conftest import lines_of, logs_in


def read(*uuids: object, **columns: str) -> rules.Rows:
    return rules.read_csv(lines_of(uuids, **columns))


def test_devices_are_imported_with_what_is_known_of_them(
    tenant_a: Tenant, group_a: Group, alice: User
) -> None:
    known = uuid4()
    rows = rules.read_items(
        [{"uuid": str(known), "name": "anna", "group": "Laptops", "hardware_info": {"cpu": "x86"}}]
    )
    report = import_devices(tenant_a, rows, group=None, by=alice)
    device = Device.objects.get()
    assert (device.pk, device.name, device.group, device.tenant) == (
        known,
        "anna",
        group_a,
        tenant_a,
    )
    assert device.hardware_info == {"cpu": "x86"}
    assert device.token_digest is None
    assert Connectivity.objects.get().connection_type == "node-red"
    assert Onboarding.objects.get().imported == report.record
    entry = AuditEntry.objects.get(action=Action.DEVICE_REGISTERED)
    assert (entry.actor, entry.device_uuid, entry.target) == ("alice", known, "device anna")
    assert report.record
    assert entry.detail == {"connection_type": "node-red", "import": str(report.record.pk)}


def test_nothing_is_imported_unless_all_is_valid(
    tenant_a: Tenant, group_a: Group, device_b: Device, alice: User
) -> None:
    organisation = create_organisation(tenant_a, name="Acme Inc")
    create_group(organisation, name="Laptops")
    good, other = uuid4(), uuid4()
    rows = rules.read_items(
        [
            {"uuid": str(good), "name": "good", "group": str(group_a.pk)},
            {"uuid": str(device_b.pk), "name": "theirs", "group": str(group_a.pk)},
            {"uuid": str(other), "name": "right\u202eleft", "group": "Laptops"},
            {"uuid": "x", "name": "x", "group": "Servers"},
            {"uuid": str(uuid4()), "name": "x", "group": str(device_b.group_id)},
        ]
    )
    with pytest.raises(DeviceImportRefused) as refused:
        import_devices(tenant_a, rows, group=None, by=alice)
    found = [
        (error.line, error.column, error.detail.partition(";")[0]) for error in refused.value.errors
    ]
    assert found == [
        (2, "uuid", imports.ELSEWHERE),
        (3, "name", "A name is one line of visible characters"),
        (3, "group", '2 groups are called "Laptops"'),
        (4, "uuid", '"x" is not a valid UUID.'),
        (5, "group", f'There is no group "{device_b.group_id}" in this tenant.'),
    ]
    assert "Beta" not in str(refused.value)
    assert not Device.objects.filter(tenant=tenant_a).exists()
    assert not DeviceImport.objects.exists()


def test_a_dry_run_says_the_same_and_writes_nothing(tenant_a: Tenant, group_a: Group) -> None:
    report = examine(tenant_a, read(uuid4(), uuid4()), group=group_a)
    assert (len(report.created), report.error_count) == (2, 0)
    report = examine(tenant_a, read(uuid4(), "x"), group=group_a)
    assert [str(error) for error in report.errors] == ['line 3, uuid: "x" is not a valid UUID.']
    assert not Device.objects.exists()


def test_a_file_may_be_imported_again_and_what_is_there_stays_as_it_is(
    imported: ImportReport, group_a: Group, alice: User
) -> None:
    Device.objects.update(name="renamed")
    fresh = uuid4()
    rows = read(*imported.created, fresh)
    report = import_devices(group_a.tenant, rows, group=group_a, by=alice)
    assert report.created == [fresh]
    assert sorted(report.existing) == sorted(imported.created)
    assert Device.objects.filter(name="renamed").count() == 3
    again = import_devices(group_a.tenant, rows, group=group_a, by=alice)
    assert (again.created, again.record) == ([], None)


def test_errors_are_counted_and_the_first_of_them_named(
    tenant_a: Tenant, group_a: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "MOST_ERRORS", 2)
    report = examine(tenant_a, read(*"abcde"), group=group_a)
    assert (len(report.errors), report.error_count) == (2, 5)
    assert str(report).endswith("; and 3 more")


def test_the_tenants_limit_holds(
    imported: ImportReport, group_a: Group, alice: User, settings: Settings
) -> None:
    settings.TENANT_MAX_DEVICES = 5
    rows = read(*(uuid4() for _ in range(3)))
    with pytest.raises(TooManyDevices, match="5 devices; 3 and 3 are more"):
        examine(group_a.tenant, rows, group=group_a)
    with pytest.raises(TooManyDevices):
        import_devices(group_a.tenant, rows, group=group_a, by=alice)
    assert Device.objects.count() == 3


def test_the_statements_do_not_grow_with_the_devices_of_a_batch(
    tenant_a: Tenant, group_a: Group, alice: User
) -> None:
    def statements(count: int) -> int:
        rows = read(*(uuid4() for _ in range(count)))
        with CaptureQueriesContext(
            connection,
        ) as asked:
            import_devices(tenant_a, rows, group=group_a, by=alice)
        return len(asked)

    assert statements(200) == statements(2)


def test_an_import_is_undone_but_for_the_devices_that_have_logged_in(
    imported: ImportReport, device_a: Device, alice: User
) -> None:
    assert imported.record
    logs_in(imported.created[0])
    assert undo_import(imported.record, by=alice) == (2, 1)
    assert set(Device.objects.values_list("pk", flat=True)) == {device_a.pk, imported.created[0]}
    imported.record.refresh_from_db()
    assert imported.record.undone_at
    deleted = AuditEntry.objects.filter(action=Action.DEVICE_DELETED)
    assert [entry.detail for entry in deleted] == [{"reason": imports.UNDONE}] * 2


def test_a_migrated_tenant_takes_no_more(tenant_a: Tenant, group_a: Group, alice: User) -> None:
    mark_migrated(tenant_a, by=alice)
    tenant_a.refresh_from_db()
    with pytest.raises(DeviceImportRefused, match="marked as migrated"):
        import_devices(tenant_a, read(uuid4()), group=group_a, by=alice)
