"""Superusers read every tenant and say so; other staff need a membership, and are told."""

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from rest_framework.test import APIClient

from devices.commands import bulk
from devices.commands import issue as commands
from devices.commands.targets import of_devices
from devices.models import Command, Device
from tenants.actions.people import set_membership
from tenants.credentials.issue import issue_tenant_credential
from tenants.models import AuditEntry, Credential, Role, Tenant, User, has_role
from tests.support.people import authorization, enrol, logged_in

MARK = "not a member"


@pytest.fixture
def root(db: None) -> User:
    return User.objects.create_superuser("root")


@pytest.fixture
def as_root(root: User) -> Client:
    return logged_in(root)


@pytest.fixture
def stella(db: None) -> User:
    """Staff who may see devices in the admin, and is a member of nothing."""
    user = User.objects.create_user("stella", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_device"))
    return user


def text(client: Client, path: str) -> str:
    answer = client.get(path)
    assert answer.status_code == 200, path
    return answer.content.decode()


def page(device: Device) -> str:
    return reverse("device", args=[device.pk])


def test_the_admins_link_leads_a_superuser_to_the_live_page(
    as_root: Client, device_a: Device
) -> None:
    link = reverse("admin:devices_device_open_live_page", args=[device_a.pk])
    answer = as_root.get(link, follow=True)
    assert answer.redirect_chain[-1][0] == page(device_a)
    assert answer.status_code == 200
    assert "Not a member." in answer.content.decode()


def test_the_fleet_shows_a_superuser_all_tenants_and_marks_those_of_others(
    as_root: Client, root: User, device_a: Device, device_b: Device, tenant_b: Tenant
) -> None:
    set_membership(root, tenant_b, Role.VIEWER)
    fleet = text(as_root, "/")
    assert device_a.name in fleet
    assert device_b.name in fleet
    assert fleet.count(MARK) == 1
    assert "Not a member." not in text(as_root, page(device_b))


def test_members_are_not_told_that_they_are_none(
    as_alice: Client, as_bob: Client, as_charlie: Client, device_a: Device, device_b: Device
) -> None:
    for client, own, other in (
        (as_alice, device_a, device_b),
        (as_bob, device_a, device_b),
        (as_charlie, device_b, device_a),
    ):
        assert MARK not in text(client, "/")
        assert MARK not in text(client, page(own)).lower()
        assert client.get(page(other)).status_code == 404


def test_a_superuser_who_is_not_a_member_changes_nothing_on_the_pages(
    as_root: Client, root: User, alice: User, device_a: Device
) -> None:
    own = issue_tenant_credential(
        device_a.tenant, kind=Credential.Kind.PASSWORD, by=alice
    ).credential
    issued = commands.issue(device_a, "ping", {}, by=alice)
    to_all, _ = bulk.issue(of_devices(alice, [device_a.pk]), "ping", {}, by=alice)
    device = page(device_a)
    tenant = reverse("tenant", args=[device_a.tenant_id])
    shown = text(as_root, device)
    assert f"{device}revoke/" not in shown
    assert f"{tenant}issue/" not in text(as_root, tenant)
    assert "Not a member." in text(as_root, tenant)
    assert "Not a member." in text(as_root, reverse("bulk-command", args=[to_all.uuid]))
    for path in (
        f"{device}commands/",
        f"{device}commands/{issued.uuid}/cancel/",
        f"{device}commands/{issued.uuid}/retry/",
        f"{device}revoke/",
        f"{device}rotate/",
        f"{device}delete/",
        f"{tenant}issue/",
        f"{tenant}rotate/",
        f"{tenant}rotate-keys/",
        f"{tenant}credentials/{own.pk}/revoke/",
        f"/commands/{to_all.uuid}/cancel/",
        f"/commands/{to_all.uuid}/retry/",
        "/commands/new/",
        "/devices/add/",
    ):
        data = {"command": "ping", "reason": "x", "overlap": "0", "kind": "jwt"}
        assert as_root.post(path, data).status_code == 403, path
    assert Command.objects.exclude(state="queued").count() == 0
    assert Command.objects.count() == 2
    assert Device.objects.get(pk=device_a.pk).revoked_at is None
    assert Credential.objects.get(pk=own.pk).ended_at is None


def test_a_superuser_reads_the_audit_of_every_tenant(
    as_root: Client, as_bob: Client, device_a: Device
) -> None:
    assert AuditEntry.objects.filter(tenant_uuid=device_a.tenant_id).exists()
    assert device_a.name in text(as_root, f"/audit/?tenant={device_a.tenant_id}")
    assert as_bob.get("/audit/").status_code == 403


def test_the_api_reads_for_a_superuser_and_obeys_no_command_of_theirs(
    api: APIClient, root: User, stella: User, charlie: User, device_a: Device
) -> None:
    status = f"/api/nats/device/{device_a.pk}/status"
    headers = authorization(root)
    assert api.get(status, **headers).status_code == 200
    answer = api.post(
        f"/api/nats/device/{device_a.pk}/command", {"command": "ping"}, format="json", **headers
    )
    assert answer.status_code == 403
    assert "role operator" in answer.json()["detail"]
    revoke = f"/api/nats/device/{device_a.pk}/revoke"
    assert api.post(revoke, {"reason": "x"}, format="json", **headers).status_code == 403
    wanted = {"devices": [str(device_a.pk)], "command": "ping"}
    answer = api.post("/api/nats/commands", wanted, format="json", **headers)
    assert answer.status_code == 403
    assert not Command.objects.exists()
    for outsider in (stella, charlie):
        assert api.get(status, **authorization(outsider)).status_code == 404


def test_staff_without_a_membership_are_told_so_on_the_live_page(
    stella: User, device_a: Device
) -> None:
    client = logged_in(stella)
    link = reverse("admin:devices_device_open_live_page", args=[device_a.pk])
    answer = client.get(link, follow=True)
    assert answer.status_code == 403
    assert f"not a member of {device_a.tenant.name}" in answer.content.decode()
    assert device_a.name not in text(client, "/")
    assert "Staff need a membership" in text(client, "/")
    missing = page(device_a).replace(str(device_a.pk), "00000000-0000-0000-0000-000000000001")
    assert client.get(missing).status_code == 404


def test_staff_who_may_not_see_devices_learn_of_none(client: Client, device_a: Device) -> None:
    client.force_login(User.objects.create_user("simon", is_staff=True))
    assert client.get(page(device_a)).status_code == 404


def test_who_was_a_superuser_a_moment_ago_sees_nothing_any_more(
    root: User, device_a: Device
) -> None:
    assert Device.objects.visible_to(root).exists()
    User.objects.filter(pk=root.pk).update(is_superuser=False)
    assert not Device.objects.visible_to(root).exists()
    User.objects.filter(pk=root.pk).update(is_superuser=True, is_active=False)
    assert not Device.objects.visible_to(root).exists()


def test_a_superuser_has_no_role_above_viewer_by_itself(
    root: User, tenant_a: Tenant, tenant_b: Tenant
) -> None:
    set_membership(root, tenant_b, Role.OPERATOR)
    assert [has_role(root, tenant_a.pk, role) for role in Role] == [True, False, False]
    assert [has_role(root, tenant_b.pk, role) for role in Role] == [True, True, False]
    for role in (Role.OPERATOR, Role.ADMIN):
        assert tenant_a not in Tenant.objects.visible_to(root, role)


def test_the_mark_costs_one_query_however_many_devices(
    as_root: Client, device_a: Device, device_b: Device
) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert as_root.get("/").status_code == 200
        return len(captured)

    # The first of a minute is written to the audit, and the others are counted.
    queries()
    few = queries()
    for number in range(5):
        enrol(device_a.group, f"another {number}")
    assert queries() == few
