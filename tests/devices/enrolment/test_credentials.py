from datetime import timedelta
from uuid import uuid4

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from devices.commands import delivery
from devices.enrolment import credentials
from devices.models import Command, Connectivity, Device
from devices.telemetry import ring_buffers
from devices.telemetry.ring_buffers import Point
from tenants.actions.suspension import suspend_tenant
from tenants.broker.accounts import ensure_platform_keys
from tenants.broker.claims import tenant_account
from tenants.models import Action, AuditEntry, Credential, Group, User
from tests.support.people import Enrolled, enrol

DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def _platform_keys(db: None) -> None:
    ensure_platform_keys()


@pytest.fixture
def enrolled(group_a: Group) -> Enrolled:
    return enrol(group_a, "anna-laptop")


def answer(api: APIClient, enrolled: Enrolled) -> tuple[int, str]:
    """Of its own credentials endpoint."""
    path = f"/api/nats/device/{enrolled.device.pk}/credentials"
    response = api.get(path, **enrolled.authorization)
    return response.status_code, response.json().get("detail", "")


def knows_renewal(device: Device) -> None:
    Connectivity.objects.filter(device=device).update(
        capabilities={"receipts": True, "commands": [{"name": credentials.RENEW}]},
        capabilities_at=timezone.now(),
        last_seen_online=timezone.now(),
    )


def test_a_revoked_device_is_told_so_by_the_api_and_gets_nothing_until_it_is_reinstated(
    enrolled: Enrolled, alice: User, api: APIClient
) -> None:
    assert answer(api, enrolled)[0] == 200
    credentials.revoke_device(enrolled.device, by=alice, reason="stolen")
    device = Device.objects.get(pk=enrolled.device.pk)
    assert (device.revoked_by, device.revoked_reason) == (alice, "stolen")
    assert not Credential.objects.live().filter(device_uuid=device.pk).exists()
    status, detail = answer(api, enrolled)
    assert status == 403
    assert "revoked" in detail
    credentials.reinstate_device(device, by=alice)
    assert answer(api, enrolled)[0] == 200


def test_revoking_twice_keeps_who_did_it_first(enrolled: Enrolled, alice: User) -> None:
    credentials.revoke_device(enrolled.device, by=alice, reason="stolen")
    credentials.revoke_device(enrolled.device, by=None, reason="again")
    assert Device.objects.get(pk=enrolled.device.pk).revoked_reason == "stolen"
    assert AuditEntry.objects.filter(action=Action.DEVICE_REVOKED).count() == 1


def test_a_device_of_a_suspended_tenant_is_told_so(enrolled: Enrolled, api: APIClient) -> None:
    suspend_tenant(enrolled.device.tenant, by=None, reason="unpaid")
    status, detail = answer(api, enrolled)
    assert status == 403
    assert "suspended" in detail


def test_a_deleted_device_is_revoked_and_its_live_metrics_go(
    group_a: Group, enrolled: Enrolled, alice: User, redis_server: object
) -> None:
    stays = enrol(group_a, "otto-laptop").device
    for device in (enrolled.device, stays):
        ring_buffers.append({(device.pk, "cpu_percent"): [Point(1, 2.0)]})
    gone = enrolled.device.pk

    credentials.delete_devices([enrolled.device], by=alice)

    assert enrolled.key.public in tenant_account(group_a.tenant_id).revocations
    assert ring_buffers.recent(gone) == {}
    assert ring_buffers.recent(stays.pk)
    assert AuditEntry.objects.get(action=Action.DEVICE_DELETED).device_uuid == gone


def test_agents_are_told_to_renew_once_and_some_at_a_time(
    group_a: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "TOLD_AT_ONCE", 2)
    for name in ("anna", "otto", "vera"):
        device = enrol(group_a, name).device
        knows_renewal(device)
        credentials.rotate_device(device, by=None, overlap=DAY)
    assert [credentials.tell_some_to_renew() for _ in range(3)] == [2, 1, 0]
    assert set(Command.objects.values_list("command", "by_platform")) == {
        ("renew_credentials", True)
    }


def test_an_agent_that_does_not_know_the_command_or_has_a_new_credential_is_not_told(
    group_a: Group, enrolled: Enrolled
) -> None:
    renewed, ignorant = enrolled.device, enrol(group_a, "otto").device
    knows_renewal(renewed)
    for device in (renewed, ignorant):
        credentials.rotate_device(device, by=None, overlap=DAY)
    assert enrolled.jwt
    assert credentials.tell_some_to_renew() == 0


def test_a_command_of_the_platform_needs_nobodys_permission(
    enrolled: Enrolled, beating: None
) -> None:
    knows_renewal(enrolled.device)
    credentials.rotate_device(enrolled.device, by=None, overlap=DAY)
    credentials.tell_some_to_renew()
    (outgoing,) = delivery.claim_due()
    assert outgoing.payload["payload"]["command"] == "renew_credentials"


@pytest.fixture
def beating(db: None) -> None:
    from natsbridge.subscriber import status

    status.beat(str(uuid4()), started_at=timezone.now(), connected=True, details={})
