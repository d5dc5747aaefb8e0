"""The audit as a resource, for the admins of its tenant and for staff."""

import pytest
from django.utils.dateparse import parse_datetime

from devices.models import Device
from tenants.actions.tenants import rename
from tenants.models import Action, AuditEntry, Role, Tenant, User
from tests.tenants.api.support import caller, results, wrong_fields

AUDIT = "/api/audit"


@pytest.fixture
def renamed(device_a: Device, device_b: Device, alice: User) -> AuditEntry:
    rename(device_a.tenant, name="Acme Ltd", by=alice)
    return AuditEntry.objects.latest("id")


def test_an_admin_reads_the_audit_of_their_tenants_newest_first(
    renamed: AuditEntry, alice: User, tenant_a: Tenant
) -> None:
    api = caller(alice)
    answer = api.get(AUDIT)
    assert answer["Cache-Control"] == "no-store"
    shown = results(answer)
    assert [each["id"] for each in shown] == sorted((each["id"] for each in shown), reverse=True)
    assert {each["tenant"] for each in shown} == {str(tenant_a.pk)}
    [entry] = [each for each in shown if each["action"] == Action.TENANT_CHANGED]
    assert (entry["actor"], entry["target"]) == ("alice", "tenant Acme")
    assert parse_datetime(entry["at"]) == renamed.at
    assert entry["detail"]["name"] == {"from": "Acme", "to": "Acme Ltd"}
    assert api.get(f"{AUDIT}/{entry['id']}").json() == entry


def test_entries_are_filtered(renamed: AuditEntry, alice: User, device_a: Device) -> None:
    api, at = caller(alice), renamed.at.isoformat()
    for query, expected in (
        ({"action": "tenant.changed"}, 1),
        ({"action": "tenant.suspended"}, 0),
        ({"actor": "alice", "action": "tenant.changed"}, 1),
        ({"actor": "bob"}, 0),
        ({"device": device_a.pk, "action": "device.registered"}, 1),
        ({"since": at, "action": "tenant.changed"}, 1),
        ({"until": at, "action": "tenant.changed"}, 0),
        ({"tenant": device_a.tenant_id, "action": "tenant.changed"}, 1),
    ):
        assert len(results(api.get(AUDIT, query))) == expected, query


def test_the_audit_is_for_nobody_else(
    renamed: AuditEntry, bob: User, alice: User, charlie: User, device_a: Device
) -> None:
    entry = f"{AUDIT}/{renamed.pk}"
    for weak in (caller(bob), caller(alice, Role.OPERATOR)):
        assert weak.get(AUDIT).status_code == weak.get(entry).status_code == 403
    outsider = caller(charlie)
    assert outsider.get(entry).status_code == 404
    assert str(device_a.tenant_id) not in outsider.get(AUDIT).content.decode()
    assert wrong_fields(outsider.get(AUDIT, {"tenant": device_a.tenant_id})) == {"tenant"}
    assert results(outsider.get(AUDIT, {"device": device_a.pk})) == []


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("action", "nothing"),
        ("action", "person.login"),
        ("actor", "x" * 201),
        ("actor", "\0"),
        ("device", "x"),
        ("since", "yesterday"),
        ("until", "99999999999999999999"),
        ("tenant", "x"),
        ("cursor", "1"),
        ("sealed", "true"),
    ],
)
def test_a_wrong_filter_is_named(alice: User, parameter: str, value: str) -> None:
    assert wrong_fields(caller(alice).get(AUDIT, {parameter: value})) == {parameter}


def test_the_audit_is_not_written(renamed: AuditEntry, alice: User) -> None:
    api = caller(alice)
    assert api.post(AUDIT, {}, "json").status_code == 405
    for send in (api.patch, api.put, api.delete):
        assert send(f"{AUDIT}/{renamed.pk}").status_code == 405
