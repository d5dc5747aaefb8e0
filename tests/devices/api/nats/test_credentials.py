"""Revoking, reinstating, rotating and deleting a device over the API."""

import pytest
from django.utils import timezone
from rest_framework.test import APIClient

from devices.api.nats.credentials import DeviceCredentialHistoryAnswer
from devices.models import Device
from tenants.credentials.issue import issue_device_jwt, issue_device_password
from tenants.credentials.revocations import revoke_credential
from tenants.models import Credential, Group, Role, User
from tests.support.people import Enrolled, authorization, enrol, renews_by_command

REASON = {"reason": "stolen on the train"}


@pytest.fixture
def enrolled(group_a: Group) -> Enrolled:
    return enrol(group_a, "anna-laptop")


def path(device: Device, verb: str = "") -> str:
    return f"/api/nats/device/{device.pk}" + (f"/{verb}" if verb else "")


@pytest.mark.parametrize("verb", ["revoke", "reinstate", "rotate", ""])
def test_only_an_admin_of_the_tenant_controls_a_device(
    api: APIClient, enrolled: Enrolled, alice: User, bob: User, charlie: User, verb: str
) -> None:
    send = api.post if verb else api.delete
    address, body = path(enrolled.device, verb), {**REASON, "overlap": "1h"}
    assert send(address, body, "json").status_code == 401
    assert send(address, body, "json", **authorization(bob)).status_code == 403
    assert send(address, body, "json", **authorization(charlie)).status_code == 404
    weak = authorization(alice, Role.OPERATOR)
    assert send(address, body, "json", **weak).status_code == 403
    assert send(address, body, "json", **enrolled.authorization).status_code == 403
    assert Device.objects.get().revoked_at is None


def test_a_revoked_device_is_kept_out_until_it_is_reinstated(
    api: APIClient, enrolled: Enrolled, alice: User
) -> None:
    device = enrolled.device
    issue_device_jwt(device.tenant_id, device.pk, enrolled.key.public)
    answer = api.post(path(device, "revoke"), REASON, "json", **authorization(alice))
    assert (answer.status_code, answer.json()["revoked"]) == (200, True)
    device.refresh_from_db()
    assert (device.revoked_by, device.revoked_reason) == (alice, REASON["reason"])
    assert not Credential.objects.live().exists()
    own = path(device, "credentials")
    refused = api.get(own, **enrolled.authorization)
    assert (refused.status_code, "revoked" in refused.json()["detail"]) == (403, True)
    answer = api.post(path(device, "reinstate"), **authorization(alice))
    assert (answer.status_code, answer.json()["revoked"]) == (200, False)
    assert api.get(own, **enrolled.authorization).status_code == 200


@pytest.mark.parametrize("reason", [{}, {"reason": ""}, {"reason": "x" * 301}, {"reason": "\0"}])
def test_revoking_wants_a_reason(
    api: APIClient, device_a: Device, alice: User, reason: dict[str, str]
) -> None:
    answer = api.post(path(device_a, "revoke"), reason, "json", **authorization(alice))
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == "reason"
    assert Device.objects.get().revoked_at is None


def test_a_second_rotation_within_the_overlap_is_a_conflict(
    api: APIClient, enrolled: Enrolled, alice: User
) -> None:
    device = enrolled.device
    issue_device_jwt(device.tenant_id, device.pk, enrolled.key.public)
    renews_by_command(device)
    rotate = path(device, "rotate")
    answer = api.post(rotate, {"overlap": "2h"}, "json", **authorization(alice))
    assert answer.status_code == 202
    # The JWT, and what stands for those that a restored backup may lack, end together.
    [ends_at] = set(Credential.objects.values_list("ends_at", flat=True))
    assert ends_at is not None
    assert 7100 < (ends_at - timezone.now()).total_seconds() <= 7200
    answer = api.post(rotate, {"overlap": 60}, "json", **authorization(alice))
    assert answer.status_code == 409
    assert "A rotation is running" in answer.json()["detail"]


@pytest.mark.parametrize("overlap", ["1 fortnight", -1, "31d", "", True, None, [1]])
def test_an_overlap_that_is_none_is_refused(
    api: APIClient, device_a: Device, alice: User, overlap: object
) -> None:
    body = {"overlap": overlap}
    answer = api.post(path(device_a, "rotate"), body, "json", **authorization(alice))
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == "overlap"


def test_a_deleted_device_is_gone_and_what_it_held_is_void(
    api: APIClient, enrolled: Enrolled, alice: User, redis_server: object
) -> None:
    device = enrolled.device
    issue_device_jwt(device.tenant_id, device.pk, enrolled.key.public)
    answer = api.delete(path(device), **authorization(alice))
    assert answer.json() == {"success": True, "device_uuid": str(device.pk)}
    assert not Device.objects.exists()
    assert not Credential.objects.live().exists()
    assert api.get(path(device, "status"), **enrolled.authorization).status_code == 401
    assert api.delete(path(device), **authorization(alice)).status_code == 404


def test_a_devices_credentials_are_listed_for_admins_of_its_tenant(
    api: APIClient, enrolled: Enrolled, alice: User, bob: User, charlie: User
) -> None:
    device = enrolled.device
    address = path(device, "credentials/history")
    assert api.get(address).status_code == 401
    assert api.get(address, **authorization(bob)).status_code == 403
    assert api.get(address, **authorization(charlie)).status_code == 404
    assert api.get(address, **authorization(alice, Role.OPERATOR)).status_code == 403
    assert api.get(address, **enrolled.authorization).status_code == 403
    old = issue_device_password(device.tenant_id, device.pk)
    revoke_credential(old.credential, by=alice, reason="seen in a log")
    new = issue_device_jwt(device.tenant_id, device.pk, enrolled.key.public)
    answer = api.get(address, **authorization(alice))
    told = answer.json()
    assert told.keys() == DeviceCredentialHistoryAnswer().fields.keys()
    assert [each["id"] for each in told["credentials"]] == [new.credential.pk, old.credential.pk]
    ended = told["credentials"][1]
    assert (ended["state"], ended["ended_by"], ended["end_reason"]) == (
        "ended",
        "alice",
        "seen in a log",
    )
    for secret in (old.secret, new.secret):
        assert secret not in answer.content.decode()


@pytest.mark.parametrize("verb", ["revoke", "reinstate", "rotate", ""])
def test_a_field_that_does_not_exist_is_named(
    api: APIClient, enrolled: Enrolled, alice: User, verb: str
) -> None:
    send = api.post if verb else api.delete
    body = {**(REASON if verb == "revoke" else {}), "nonsense": 3}
    answer = send(path(enrolled.device, verb), body, "json", **authorization(alice))
    assert answer.status_code == 400
    assert [each["field"] for each in answer.json()["errors"]] == ["nonsense"]
    assert Device.objects.get().revoked_at is None
