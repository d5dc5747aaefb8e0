"""Memberships as a resource: an admin adds whom they know, and the last admin stays."""

from typing import Any

import pytest

from tenants.actions.people import set_membership
from tenants.models import Action, AuditEntry, Membership, Role, Tenant, User
from tests.support.people import person
from tests.tenants.api.support import caller, results, wrong_fields

MEMBERS = "/api/memberships"


def address(user: User, tenant: Tenant) -> str:
    return f"{MEMBERS}/{Membership.objects.get(user=user, tenant=tenant).pk}"


@pytest.fixture
def second(alice: User) -> Tenant:
    """Another tenant that Alice administers."""
    tenant = Tenant.objects.create(name="Acme Two")
    set_membership(alice, tenant, Role.ADMIN)
    return tenant


def test_admins_list_the_members_of_their_tenants(
    tenant_a: Tenant, alice: User, bob: User, charlie: User
) -> None:
    api = caller(alice, Role.ADMIN)
    shown = results(api.get(MEMBERS))
    assert [(each["username"], each["role"]) for each in shown] == [
        ("alice", "admin"),
        ("bob", "viewer"),
    ]
    assert {each["tenant"] for each in shown} == {str(tenant_a.pk)}
    assert [each["username"] for each in results(api.get(MEMBERS, {"role": "viewer"}))] == ["bob"]
    assert caller(bob).get(MEMBERS).status_code == 403
    assert caller(bob).get(address(alice, tenant_a)).status_code == 403
    assert caller(charlie).get(address(bob, tenant_a)).status_code == 404
    assert wrong_fields(api.get(MEMBERS, {"role": "chief"})) == {"role"}


def test_an_admin_adds_changes_and_removes_a_member(second: Tenant, alice: User, bob: User) -> None:
    api = caller(alice)
    body = {"tenant": str(second.pk), "username": "bob", "role": "operator"}
    added = api.post(MEMBERS, body, "json")
    assert added.status_code == 201
    assert added.json() == {"id": added.json()["id"], **body}
    again = api.post(MEMBERS, body | {"role": "viewer"}, "json")
    assert (again.status_code, again.json()["type"]) == (409, "already-member")
    changed = api.patch(address(bob, second), {"role": "viewer"}, "json")
    assert changed.json()["role"] == "viewer"
    assert api.delete(address(bob, second)).status_code == 204
    assert not Membership.objects.filter(user=bob, tenant=second).exists()
    told = AuditEntry.objects.filter(tenant_uuid=second.pk, actor="alice").order_by("id")
    assert list(told.values_list("action", flat=True)) == [
        *[Action.MEMBERSHIP_SET] * 2,
        Action.MEMBERSHIP_REMOVED,
    ]


def test_a_new_role_counts_from_the_next_request(tenant_a: Tenant, alice: User, bob: User) -> None:
    as_bob = caller(bob)
    assert as_bob.get(MEMBERS).status_code == 403
    caller(alice).patch(address(bob, tenant_a), {"role": "admin"}, "json")
    assert as_bob.get(MEMBERS).status_code == 200
    caller(alice).delete(address(bob, tenant_a))
    assert results(as_bob.get("/api/tenants")) == []


def test_the_last_admin_stays(tenant_a: Tenant, alice: User, bob: User) -> None:
    api, own = caller(alice), address(alice, tenant_a)
    for answer in (api.delete(own), api.patch(own, {"role": "viewer"}, "json")):
        assert (answer.status_code, answer.json()["type"]) == (409, "last-admin")
    api.patch(address(bob, tenant_a), {"role": "admin"}, "json")
    assert api.delete(own).status_code == 204
    # A deactivated admin is none.
    User.objects.filter(pk=alice.pk).update(is_active=False)
    set_membership(alice, tenant_a, Role.ADMIN)
    assert caller(bob).delete(address(bob, tenant_a)).status_code == 409


def test_someone_of_another_tenant_is_as_unknown_as_nobody(
    tenant_a: Tenant, tenant_b: Tenant, alice: User, charlie: User
) -> None:
    api = caller(alice)
    body: dict[str, Any] = {"tenant": str(tenant_a.pk), "role": "viewer"}
    told = [
        api.post(MEMBERS, body | {"username": name}, "json").json()["detail"].replace(name, "X")
        for name in ("charlie", "nobody-at-all")
    ]
    assert told[0] == told[1]
    foreign = api.post(
        MEMBERS, {"tenant": str(tenant_b.pk), "username": "alice", "role": "admin"}, "json"
    )
    assert wrong_fields(foreign) == {"tenant"}
    assert Membership.objects.filter(tenant=tenant_b).count() == 1


def test_a_lesser_role_writes_nothing(tenant_a: Tenant, alice: User, charlie: User) -> None:
    operator = person("otto", tenant_a, Role.OPERATOR)
    body = {"tenant": str(tenant_a.pk), "username": "otto", "role": "admin"}
    for weak in (caller(operator), caller(alice, Role.OPERATOR)):
        assert weak.post(MEMBERS, body, "json").status_code == 403
        assert weak.patch(address(operator, tenant_a), {"role": "admin"}, "json").status_code == 403
        assert weak.delete(address(operator, tenant_a)).status_code == 403
    outsider = caller(charlie)
    assert outsider.delete(address(operator, tenant_a)).status_code == 404
    assert wrong_fields(outsider.post(MEMBERS, body, "json")) == {"tenant", "username"}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"role": "chief"}, "role"),
        ({"role": None}, "role"),
        ({"username": ["bob"]}, "username"),
        ({"username": "a\0b"}, "username"),
        ({"username": {"x": 1}}, "username"),
        ({"tenant": 1}, "tenant"),
        ({"user": 1}, "user"),
        ({"id": 1}, "id"),
    ],
)
def test_what_is_wrong_is_named(
    second: Tenant, alice: User, bob: User, change: dict[str, Any], field: str
) -> None:
    body = {"tenant": str(second.pk), "username": "bob", "role": "viewer"}
    assert wrong_fields(caller(alice).post(MEMBERS, body | change, "json")) == {field}
    moved = caller(alice).patch(address(alice, second), {"tenant": str(second.pk)}, "json")
    assert wrong_fields(moved) == {"tenant"}
