"""Tenants as a resource: members see theirs, admins rename them, staff create them."""

import pytest
from django.contrib.auth.models import Permission

from tenants.models import Action, AuditEntry, Role, Tenant, User
from tests.tenants.api.support import caller, results, wrong_fields

TENANTS = "/api/tenants"


@pytest.fixture
def staff(db: None) -> User:
    user = User.objects.create_user("stella", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="change_tenant"))
    return user


def test_people_see_their_own_tenants_and_staff_see_all(
    tenant_a: Tenant, tenant_b: Tenant, bob: User, staff: User
) -> None:
    [shown] = results(caller(bob, Role.VIEWER).get(TENANTS))
    assert shown == {
        "uuid": str(tenant_a.pk),
        "name": "Acme",
        "created_at": tenant_a.created_at.isoformat().replace("+00:00", "Z"),
        "suspended_at": None,
    }
    assert caller(bob).get(f"{TENANTS}/{tenant_b.pk}").status_code == 404
    assert [each["name"] for each in results(caller(staff).get(TENANTS))] == ["Acme", "Beta"]


def test_an_admin_renames_their_tenant_and_nobody_less(
    tenant_a: Tenant, tenant_b: Tenant, alice: User, bob: User, charlie: User, staff: User
) -> None:
    address, body = f"{TENANTS}/{tenant_a.pk}", {"name": "Acme Ltd"}
    assert caller(bob).patch(address, body, "json").status_code == 403
    assert caller(alice, Role.OPERATOR).patch(address, body, "json").status_code == 403
    assert caller(charlie).patch(address, body, "json").status_code == 404
    assert caller(alice).patch(address, body, "json").json()["name"] == "Acme Ltd"
    assert caller(staff).patch(address, {"name": "Acme"}, "json").json()["name"] == "Acme"
    taken = caller(alice).patch(address, {"name": "Beta"}, "json")
    assert (taken.status_code, taken.json()["type"]) == (409, "name-taken")
    assert AuditEntry.objects.filter(action=Action.TENANT_CHANGED).count() == 2


def test_staff_create_tenants_and_nobody_else(alice: User, staff: User) -> None:
    assert caller(alice).post(TENANTS, {"name": "New"}, "json").status_code == 403
    assert caller(staff, Role.OPERATOR).post(TENANTS, {"name": "New"}, "json").status_code == 403
    created = caller(staff).post(TENANTS, {"name": "New"}, "json")
    assert created.status_code == 201
    row = Tenant.objects.get(pk=created.json()["uuid"])
    assert row.broker_account.state == "waiting"
    assert AuditEntry.objects.filter(action=Action.TENANT_CREATED, tenant_uuid=row.pk).exists()


def test_what_is_wrong_is_named(alice: User, staff: User, tenant_a: Tenant) -> None:
    api = caller(staff)
    for body, field in (
        ({}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": "New", "suspended_at": None}, "suspended_at"),
    ):
        assert wrong_fields(api.post(TENANTS, body, "json")) == {field}
    address = f"{TENANTS}/{tenant_a.pk}"
    assert wrong_fields(caller(alice).patch(address, {"uuid": "x"}, "json")) == {"uuid"}
    assert caller(alice).delete(address).status_code == 405
