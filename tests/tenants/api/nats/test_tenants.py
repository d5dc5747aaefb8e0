"""A tenant at the broker over the API: its admins' part, and the staff's."""

import json
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from pytest_django.fixtures import Settings
from rest_framework.test import APIClient

from devices.models import Device
from tenants.actions.tenants import create_tenant
from tenants.api.nats.credentials import CredentialAnswer
from tenants.api.nats.tenants import TenantAnswer
from tenants.broker.accounts import record_provisioned, record_provisioning_failed
from tenants.credentials.issue import issue_device_jwt, issue_device_password
from tenants.models import Credential, Role, Tenant, User, hash_token
from tests.support.people import Enrolled, authorization, enrol

REASON = {"reason": "the invoice"}
OWN = ["", "credentials"]
CHANGES = ["credentials/rotate", "rotate-keys"]
STAFF_ONLY = ["suspend", "resume"]


@pytest.fixture
def staff(db: None) -> User:
    user = User.objects.create_user("stella", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="change_tenant"))
    return user


def path(tenant: Tenant, part: str = "") -> str:
    return f"/api/nats/tenant/{tenant.pk}" + (f"/{part}" if part else "")


def rotated(api: APIClient, tenant: Tenant, by: User, **body: object) -> dict[str, Any]:
    answer = api.post(path(tenant, "credentials/rotate"), body, "json", **authorization(by))
    assert answer.status_code == 201, answer.json()
    assert answer["Cache-Control"] == "no-store"
    told: dict[str, Any] = answer.json()
    return told


@pytest.mark.parametrize("part", OWN + CHANGES)
def test_a_tenants_credentials_are_for_its_admins(
    api: APIClient, device_a: Device, alice: User, bob: User, charlie: User, part: str
) -> None:
    tenant = device_a.tenant
    send = api.get if part in OWN else api.post
    address = path(tenant, part)
    assert send(address).status_code == 401
    assert send(address, **authorization(bob)).status_code == 403
    assert send(address, **authorization(charlie)).status_code == 404
    assert send(address, **authorization(alice, Role.OPERATOR)).status_code == 403
    assert send(address, **enrol(device_a.group, "other").authorization).status_code == 403
    assert send(address, **authorization(alice)).status_code in (200, 201, 202)


def test_a_tenant_tells_how_it_stands(api: APIClient, device_a: Device, alice: User) -> None:
    tenant = device_a.tenant
    answer = api.get(path(tenant), **authorization(alice)).json()
    assert answer.keys() == TenantAnswer().fields.keys()
    assert (answer["name"], answer["suspended"]) == ("Acme", False)
    assert answer["provisioning"]["state"] == "waiting"
    assert answer["counts"] == {
        "devices": 1,
        "revoked_devices": 0,
        "groups": 1,
        "members": 1,
        "live_credentials": 0,
    }
    record_provisioning_failed(tenant, "no disk left")
    answer = api.get(path(tenant), **authorization(alice)).json()
    assert (answer["provisioning"]["state"], answer["provisioning"]["error"]) == (
        "failed",
        "no disk left",
    )


@pytest.mark.parametrize("kind", ["jwt", "password"])
def test_a_credential_is_rotated_and_its_secret_shown_once(
    api: APIClient, tenant_a: Tenant, alice: User, kind: str
) -> None:
    first = rotated(api, tenant_a, alice, kind=kind)
    second = rotated(api, tenant_a, alice, kind=kind, replaces=first["credential"]["id"])
    assert first["secret"] != second["secret"]
    assert second["username"] == f"tenant_{tenant_a.pk}"
    listed = api.get(path(tenant_a, "credentials"), **authorization(alice))
    shown = listed.json()["credentials"]
    assert [each["state"] for each in shown] == ["live", "ending"]
    assert shown[0].keys() == CredentialAnswer().fields.keys()
    assert shown[0]["issued_by"] == "alice"
    assert second["secret"] not in json.dumps(listed.json())
    if kind == "password":
        assert Credential.objects.live().filter(digest=hash_token(second["secret"])).exists()


@pytest.mark.parametrize("every", [False, True])
def test_who_rotates_what_somebody_else_has_rotated_is_told(
    api: APIClient, tenant_a: Tenant, alice: User, every: bool
) -> None:
    seen = rotated(api, tenant_a, alice)["credential"]["id"]
    rotate = path(tenant_a, "credentials/rotate")
    unnamed = api.post(rotate, {"overlap": 0}, "json", **authorization(alice))
    assert (unnamed.status_code, str(seen) in unnamed.json()["detail"]) == (400, True)
    rotated(api, tenant_a, alice, overlap=0, replaces=seen)
    body = {"replaces": seen, "all": every}
    answer = api.post(rotate, body, "json", **authorization(alice))
    assert (answer.status_code, answer["Content-Type"]) == (409, "application/problem+json")
    assert "meanwhile" in answer.json()["detail"]


def test_what_is_replaced_is_of_the_same_kind(
    api: APIClient, tenant_a: Tenant, alice: User
) -> None:
    number = rotated(api, tenant_a, alice, kind="password")["credential"]["id"]
    rotate = path(tenant_a, "credentials/rotate")
    answer = api.post(rotate, {"replaces": number}, "json", **authorization(alice))
    assert answer.status_code == 400
    assert f"{number} is a Password" in answer.json()["detail"]


def test_one_more_credential_leaves_those_in_use_as_they_are(
    api: APIClient, tenant_a: Tenant, alice: User, bob: User, charlie: User
) -> None:
    first = rotated(api, tenant_a, alice)["credential"]["id"]
    address, body = path(tenant_a, "credentials"), {"kind": "jwt"}
    assert api.post(address, body, "json", **authorization(bob)).status_code == 403
    assert api.post(address, body, "json", **authorization(charlie)).status_code == 404
    answer = api.post(address, body, "json", **authorization(alice))
    assert (answer.status_code, answer["Cache-Control"]) == (201, "no-store")
    assert answer.json()["secret"].startswith("-----BEGIN NATS USER JWT-----")
    assert Credential.objects.get(pk=first).state == "live"
    assert Credential.objects.live().count() == 2


@pytest.mark.parametrize(
    ("method", "part"),
    [
        ("post", "credentials"),
        ("post", "credentials/rotate"),
        ("post", "rotate-keys"),
        ("post", "suspend"),
        ("post", "resume"),
        ("put", "limits"),
        ("patch", "limits"),
    ],
)
def test_a_field_that_does_not_exist_is_named(
    api: APIClient, tenant_a: Tenant, alice: User, staff: User, method: str, part: str
) -> None:
    body = {**(REASON if part == "suspend" else {}), "nonsense": 3}
    who = alice if part in ("credentials", *CHANGES) else staff
    answer = getattr(api, method)(path(tenant_a, part), body, "json", **authorization(who))
    assert answer.status_code == 400
    assert [each["field"] for each in answer.json()["errors"]] == ["nonsense"]
    assert not Credential.objects.exists()


def test_all_credentials_of_a_tenant_are_rotated_with_those_of_its_devices(
    api: APIClient, tenant_a: Tenant, group_a: Any, alice: User
) -> None:
    enrolled: Enrolled = enrol(group_a, "anna-laptop")
    device = enrolled.device
    issue_device_jwt(tenant_a.pk, device.pk, enrolled.key.public)
    rotated(api, tenant_a, alice, all=True)
    assert Credential.objects.get(device_uuid=device.pk).ends_at


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "pigeon"},
        {"replaces": "x"},
        {"overlap": "soon"},
        {"all": "perhaps"},
    ],
)
def test_a_rotation_that_is_none_is_refused(
    api: APIClient, tenant_a: Tenant, alice: User, body: dict[str, object]
) -> None:
    rotate = path(tenant_a, "credentials/rotate")
    assert api.post(rotate, body, "json", **authorization(alice)).status_code == 400
    assert not Credential.objects.exists()


def test_a_credential_is_revoked_by_an_admin_of_its_tenant_only(
    api: APIClient, device_a: Device, alice: User, bob: User, charlie: User
) -> None:
    tenant = device_a.tenant
    number = rotated(api, tenant, alice)["credential"]["id"]
    revoke = path(tenant, f"credentials/{number}/revoke")
    assert api.post(revoke, REASON, "json", **authorization(bob)).status_code == 403
    assert api.post(revoke, REASON, "json", **authorization(charlie)).status_code == 404
    of_another = path(create_tenant(name="other"), f"credentials/{number}/revoke")
    assert api.post(of_another, REASON, "json", **authorization(alice)).status_code == 404
    assert api.post(revoke, {}, "json", **authorization(alice)).status_code == 400
    answer = api.post(revoke, REASON, "json", **authorization(alice)).json()
    assert (answer["state"], answer["ended_by"]) == ("ended", "alice")
    assert answer["end_reason"] == REASON["reason"]


def test_a_devices_credential_is_not_reached_as_the_tenants(
    api: APIClient, device_a: Device, alice: User
) -> None:
    issued = issue_device_password(device_a.tenant_id, device_a.pk)
    revoke = path(device_a.tenant, f"credentials/{issued.credential.pk}/revoke")
    assert api.post(revoke, REASON, "json", **authorization(alice)).status_code == 404


def test_the_keys_are_rotated_once_in_an_overlap(
    api: APIClient, tenant_a: Tenant, alice: User
) -> None:
    rotate = path(tenant_a, "rotate-keys")
    answer = api.post(rotate, {"overlap": "1h"}, "json", **authorization(alice))
    assert (answer.status_code, answer.json()["provisioning"]["waiting"]) == (202, True)
    again = api.post(rotate, {"overlap": "1h"}, "json", **authorization(alice))
    assert again.status_code == 409


@pytest.mark.parametrize("part", STAFF_ONLY)
def test_a_tenant_neither_suspends_nor_resumes_itself(
    api: APIClient, device_a: Device, alice: User, charlie: User, staff: User, part: str
) -> None:
    address = path(device_a.tenant, part)
    assert api.post(address, REASON, "json").status_code == 401
    assert api.post(address, REASON, "json", **authorization(alice)).status_code == 403
    assert api.post(address, REASON, "json", **authorization(charlie)).status_code == 404
    weak = authorization(staff, Role.OPERATOR)
    assert api.post(address, REASON, "json", **weak).status_code == 403
    device = enrol(device_a.group, "other").authorization
    assert api.post(address, REASON, "json", **device).status_code == 403
    without = authorization(User.objects.create_user("steve", is_staff=True))
    assert api.post(address, REASON, "json", **without).status_code == 404
    assert Tenant.objects.get(pk=device_a.tenant_id).suspended_at is None
    body = REASON if part == "suspend" else {}
    assert api.post(address, body, "json", **authorization(staff)).status_code == 200


def test_a_suspended_tenant_gets_no_credential_until_it_is_resumed(
    api: APIClient, tenant_a: Tenant, alice: User, staff: User
) -> None:
    answer = api.post(path(tenant_a, "suspend"), REASON, "json", **authorization(staff)).json()
    assert (answer["suspended"], answer["suspended_by"]) == (True, "stella")
    assert answer["suspended_reason"] == REASON["reason"]
    rotate = path(tenant_a, "credentials/rotate")
    refused = api.post(rotate, **authorization(alice))
    assert (refused.status_code, "suspended" in refused.json()["detail"]) == (409, True)
    answer = api.post(path(tenant_a, "resume"), **authorization(staff)).json()
    assert (answer["suspended"], answer["suspended_by"]) == (False, None)
    rotated(api, tenant_a, alice)


def test_limits_are_set_by_staff_and_only_by_them(
    api: APIClient, device_a: Device, alice: User, bob: User, charlie: User, staff: User
) -> None:
    tenant = device_a.tenant
    address, body = path(tenant, "limits"), {"max_connections": 7}
    for person, status in ((alice, 403), (bob, 403), (charlie, 404)):
        assert api.patch(address, body, "json", **authorization(person)).status_code == status
        assert api.put(address, body, "json", **authorization(person)).status_code == status
    device = enrol(device_a.group, "other").authorization
    assert api.patch(address, body, "json", **device).status_code == 403
    assert tenant.broker_account.max_connections is None


def test_put_sets_all_limits_and_patch_those_named(
    api: APIClient, tenant_a: Tenant, staff: User, settings: Settings
) -> None:
    settings.TENANT_MAX_CONNECTIONS = 99
    record_provisioned(tenant_a, tenant_a.broker_account.wanted_at)
    address, key = path(tenant_a, "limits"), authorization(staff)
    api.put(address, {"max_connections": 7, "max_subscriptions": 8}, "json", **key)
    assert "max_devices" in api.get(path(tenant_a, ""), **key).json()["limits"]
    answer = api.patch(address, {"max_subscriptions": -1}, "json", **key).json()
    assert answer["limits"]["max_connections"] == {"value": 7, "default": 99, "own": 7}
    assert answer["limits"]["max_subscriptions"]["value"] == -1
    assert answer["provisioning"]["waiting"]
    answer = api.put(address, {}, "json", **key).json()
    assert answer["limits"]["max_connections"] == {"value": 99, "default": 99, "own": None}
    for bad in ({"max_connections": -2}, {"max_connections": 2**31}, {"storage_bytes": "much"}):
        assert api.patch(address, bad, "json", **key).status_code == 400, bad
    assert api.patch(address, {"storage_bytes": 1}, "json", **key).status_code == 400
