"""Tokens for many devices at once, their progress, and how it is undone until the first login."""

from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from devices.enrolment import actions as enrolment
from devices.enrolment.credentials import revoke_device
from devices.errors import UpgradeRefused
from devices.inventory.details import move_device
from devices.models import Connectivity, Device
from devices.onboarding import upgrades
from devices.onboarding.imports import ImportReport
from devices.onboarding.upgrades import Progress, Undone
from natsbridge.identity import nkeys
from tenants.actions.suspension import suspend_tenant
from tenants.actions.tenants import create_group
from tenants.credentials.issue import issue_device_password
from tenants.credentials.use import record_password_uses
from tenants.errors import CredentialRefused, MigrationRefused
from tenants.models import Action, AuditEntry, Credential, Group, Tenant, User
from tests.devices.onboarding.conftest import logs_in
from tests.support.waiting import eventually


def accepted(device: UUID, token: str) -> bool:
    return Device.objects.holding_token(token).filter(pk=device).exists()


@pytest.fixture
def other_group(group_a: Group, imported: ImportReport) -> Group:
    """A second group, to which one of the devices belongs."""
    other = create_group(group_a.organisation, name="Servers")
    move_device(Device.objects.get(pk=imported.created[0]), other, by=None)
    return other


def test_an_agent_comes_over_with_the_token_and_a_key_of_its_own(
    imported: ImportReport, tenant_a: Tenant, alice: User, api: APIClient
) -> None:
    issued = upgrades.issue_tokens(tenant_a, None, by=alice)
    assert {each.device for each in issued} == set(imported.created)
    assert issued[0].token not in repr(issued)
    assert not Credential.objects.exists(), "a token opens nothing at the broker"
    key = nkeys.generate("user").public
    answer = api.post(
        f"/api/nats/agent/{issued[0].device}/upgrade",
        {"nkey_public": key},
        "json",
        HTTP_AUTHORIZATION=f"Bearer {issued[0].token}",
    )
    assert answer.status_code == 200
    assert "jwt" in answer.json()["nats_credentials"]
    entries = AuditEntry.objects.filter(action=Action.DEVICE_UPGRADED, actor="alice")
    assert {entry.device_uuid for entry in entries} == set(imported.created)


def test_tokens_of_one_group_are_issued_and_those_that_were_issued_stay_valid(
    imported: ImportReport, other_group: Group, tenant_a: Tenant, device_a: Device, alice: User
) -> None:
    (first,) = upgrades.issue_tokens(tenant_a, other_group, by=alice)
    assert first.device == imported.created[0]
    others = upgrades.issue_tokens(tenant_a, None, by=alice)
    assert {each.device for each in others} == set(imported.created[1:]), "and not of device_a"
    assert accepted(first.device, first.token)
    assert upgrades.issue_tokens(tenant_a, None, by=alice) == []


def test_issued_again_what_was_issued_before_is_void(
    imported: ImportReport, tenant_a: Tenant, alice: User
) -> None:
    lost = {each.device: each for each in upgrades.issue_tokens(tenant_a, None, by=alice)}
    seen, fetched, revoked = imported.created
    logs_in(seen)
    device = Device.objects.get(pk=fetched)
    enrolment.upgrade(device, nkey_public=nkeys.generate("user").public, by=None)
    revoke_device(Device.objects.get(pk=revoked), by=alice, reason="stolen")
    again = upgrades.issue_tokens(tenant_a, None, by=alice, again=True)
    assert [each.device for each in again] == [fetched]
    assert accepted(fetched, again[0].token)
    assert not accepted(fetched, lost[fetched].token)
    assert accepted(seen, lost[seen].token)
    assert not Credential.objects.live().filter(device_uuid=fetched).exists()
    assert Device.objects.get(pk=fetched).nkey_public is None


def test_progress_is_counted_for_the_tenant_and_its_groups(
    imported: ImportReport, other_group: Group, tenant_a: Tenant, device_a: Device, alice: User
) -> None:
    upgrades.issue_tokens(tenant_a, other_group, by=alice)
    logs_in(imported.created[0])
    Connectivity.objects.filter(device=imported.created[1]).update(connection_type="nats")
    assert upgrades.progress(tenant_a) == Progress(registered=3, issued=1, seen=2)
    by_group = upgrades.progress_by_group(tenant_a)
    assert [(each.name, each.progress) for each in by_group] == [
        ("Acme Ltd / Laptops", Progress(2, 0, 1)),
        ("Acme Ltd / Servers", Progress(1, 1, 1)),
    ]


def test_an_undo_voids_what_was_issued_but_for_devices_that_have_logged_in(
    imported: ImportReport, tenant_a: Tenant, alice: User
) -> None:
    issued = {each.device: each for each in upgrades.issue_tokens(tenant_a, None, by=alice)}
    seen, fetched, waiting = imported.created
    logs_in(seen)
    device = Device.objects.get(pk=fetched)
    enrolment.upgrade(device, nkey_public=nkeys.generate("user").public, by=None)
    assert upgrades.undo_upgrades(tenant_a, None, by=alice) == Undone(2, 1)
    assert accepted(seen, issued[seen].token)
    for each in (fetched, waiting):
        assert not accepted(each, issued[each].token)
    assert [row.device_uuid for row in Credential.objects.live()] == [seen]
    assert set(Connectivity.objects.values_list("connection_type", flat=True)) == {"node-red"}
    assert upgrades.progress(tenant_a) == Progress(3, 1, 1)
    assert AuditEntry.objects.filter(action=Action.DEVICE_UPGRADE_UNDONE).count() == 2
    assert upgrades.undo_upgrades(tenant_a, None, by=alice) == Undone(0, 1)


@pytest.mark.django_db(transaction=True)
def test_a_login_that_is_being_recorded_is_waited_for_and_not_undone(
    imported: ImportReport, tenant_a: Tenant, alice: User
) -> None:
    upgrades.issue_tokens(tenant_a, None, by=alice)
    seen = imported.created[0]
    credential = issue_device_password(tenant_a.pk, seen).credential

    def undo() -> Undone:
        try:
            return upgrades.undo_upgrades(tenant_a, None, by=alice)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as elsewhere:
        with transaction.atomic():
            record_password_uses([credential])
            undone = elsewhere.submit(undo)
            eventually(waits_for_a_lock)
        assert undone.result() == Undone(2, 1)
    assert Credential.objects.live().filter(pk=credential.pk).exists()


def test_an_agent_whose_token_was_voided_meanwhile_gets_no_credential(
    imported: ImportReport, tenant_a: Tenant, alice: User
) -> None:
    upgrades.issue_tokens(tenant_a, None, by=alice)
    authenticated = Device.objects.get(pk=imported.created[0])
    upgrades.undo_upgrades(tenant_a, None, by=alice)
    with pytest.raises(UpgradeRefused):
        enrolment.upgrade(authenticated, nkey_public=None, by=None)
    assert not Credential.objects.exists()


def waits_for_a_lock() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_locks WHERE NOT granted")
        return cursor.fetchone() is not None


def test_the_upgrade_of_one_device_is_undone_once(
    imported: ImportReport, tenant_a: Tenant, alice: User
) -> None:
    device = Device.objects.get(pk=imported.created[0])
    upgraded = enrolment.upgrade(device, nkey_public=None, by=alice)
    upgrades.undo_upgrade(device, by=alice)
    assert not accepted(device.pk, str(upgraded.device_token))
    with pytest.raises(UpgradeRefused, match="nothing was issued"):
        upgrades.undo_upgrade(device, by=alice)
    upgrades.issue_tokens(tenant_a, None, by=alice)
    logs_in(device.pk)
    with pytest.raises(UpgradeRefused, match="has logged in"):
        upgrades.undo_upgrade(device, by=alice)


def test_a_suspended_tenant_is_issued_nothing(
    imported: ImportReport, tenant_a: Tenant, alice: User
) -> None:
    suspend_tenant(tenant_a, by=alice, reason="the invoice")
    with pytest.raises(CredentialRefused):
        upgrades.issue_tokens(tenant_a, None, by=alice)


def test_a_tenant_is_marked_when_all_have_come_over_or_may_stay_behind(
    imported: ImportReport, tenant_a: Tenant, alice: User
) -> None:
    with pytest.raises(MigrationRefused, match="3 devices of Acme"):
        upgrades.mark_migrated(tenant_a, by=alice)
    upgrades.mark_migrated(tenant_a, by=alice, despite_remaining=True)
    tenant_a.refresh_from_db()
    assert (bool(tenant_a.migrated_at), tenant_a.migrated_by_name) == (True, "alice")
    upgrades.unmark_migrated(tenant_a, by=alice)
    tenant_a.refresh_from_db()
    assert tenant_a.migrated_at is None
    for device in imported.created:
        logs_in(device)
    upgrades.mark_migrated(tenant_a, by=alice)
    details = AuditEntry.objects.filter(action=Action.TENANT_MIGRATED).order_by("id")
    assert [entry.detail for entry in details] == [
        {"migrated": True, "remaining": 3},
        {"migrated": False},
        {"migrated": True, "remaining": 0},
    ]


def test_the_statements_do_not_grow_with_the_devices(
    imported: ImportReport, tenant_a: Tenant, other_group: Group, group_a: Group, alice: User
) -> None:
    def statements(group: Group) -> int:
        with CaptureQueriesContext(connection) as asked:
            upgrades.issue_tokens(tenant_a, group, by=alice)
            upgrades.issue_tokens(tenant_a, group, by=alice, again=True)
            upgrades.undo_upgrades(tenant_a, group, by=alice)
        return len(asked)

    assert statements(group_a) == statements(other_group)
