"""Devices that log in to the broker by username and password: registered so, or moved over."""

import uuid
from typing import Any

import pytest
from django.utils import timezone
from rest_framework.response import Response
from rest_framework.test import APIClient

from devices.enrolment import actions as enrolment
from devices.errors import AlreadyRegistered
from devices.models import Connectivity, Device
from natsbridge.identity import nkeys
from natsbridge.identity.jwt import decode_jwt
from tenants.actions.keys import create_enrollment_key
from tenants.broker.accounts import ensure_platform_keys
from tenants.credentials.use import record_password_uses
from tenants.models import Action, AuditEntry, Credential, Group, Role, Tenant, User, hash_token
from tests.support.people import Enrolled, authorization, enrol, person

BROKER_ACCESS = {"nats_url", "nats_urls", "inbox_prefix", "subjects"}


@pytest.fixture(autouse=True)
def platform_keys(db: None) -> None:
    ensure_platform_keys()


@pytest.fixture
def key(group_a: Group) -> str:
    _, plain = create_enrollment_key(group_a, name="office", max_uses=1)
    return plain


@pytest.fixture
def old_device(group_a: Group, alice: User) -> Device:
    return enrolment.record_existing(group_a, "old-one", by=alice)


def register(api: APIClient, group: Group, key: str, **more: Any) -> Response:
    body = {"groupuuid": str(group.pk), "devicename": "old-laptop", "enrollment_key": key}
    return api.post("/api/nats/agent/register", body | more, format="json")


def upgrade(api: APIClient, device: Device, headers: dict[str, str], **body: Any) -> Response:
    return api.post(f"/api/nats/agent/{device.pk}/upgrade", body, format="json", **headers)


def bearer(token: str) -> dict[str, str]:
    return {"HTTP_AUTHORIZATION": f"Bearer {token}"}


def opened_by(given: dict[str, str]) -> Credential | None:
    found = Credential.objects.live().filter(digest=hash_token(given["password"])).first()
    return found if found and found.username == given["username"] else None


def is_valid(given: dict[str, str]) -> bool:
    return opened_by(given) is not None


def test_without_a_key_pair_a_device_gets_a_username_and_a_password(
    api: APIClient, group_a: Group, key: str
) -> None:
    answer = register(api, group_a, key)
    assert (answer.status_code, answer["Cache-Control"]) == (201, "no-store")
    given = answer.json()["nats_credentials"]
    assert given.keys() == {"username", "password", *BROKER_ACCESS}
    assert given["username"] == f"device_{answer.json()['deviceuuid']}"
    assert len(given["password"]) == 32
    assert given["password"].isalnum()
    assert is_valid(given)
    assert given["password"] not in str(list(Credential.objects.values()))
    assert Device.objects.get().nkey_public is None


def test_each_get_is_a_new_password_and_the_old_one_lives_until_it_has_been_used(
    api: APIClient, group_a: Group, key: str
) -> None:
    registered = register(api, group_a, key).json()
    first = registered["nats_credentials"]
    path = f"/api/nats/device/{registered['deviceuuid']}/credentials"
    second = api.get(path, **bearer(registered["device_token"])).json()["credentials"]
    assert second.keys() == first.keys()
    assert second["password"] != first["password"]
    assert is_valid(first)
    used = opened_by(second)
    assert used
    record_password_uses([used])
    assert not is_valid(first)
    assert is_valid(second)


def test_a_second_registration_without_a_key_pair_costs_a_second_use(
    api: APIClient, group_a: Group, key: str
) -> None:
    """Nothing could prove that it is the same computer, so a key for one makes one device."""
    assert register(api, group_a, key).status_code == 201
    again = register(api, group_a, key)
    assert again.status_code == 401
    assert "used up" in again.json()["detail"]
    assert Device.objects.count() == 1


def test_a_signature_without_the_key_it_is_checked_with_is_bad_input(
    api: APIClient, group_a: Group, key: str
) -> None:
    answer = register(api, group_a, key, timestamp=1, signature="abc")
    assert answer.status_code == 400
    assert [each["field"] for each in answer.json()["errors"]] == ["nkey_public"]


def test_nobody_registers_into_a_suspended_tenant(api: APIClient, group_a: Group, key: str) -> None:
    Tenant.objects.update(suspended_at=timezone.now())
    for more in ({}, {"nkey_public": nkeys.generate("user").public}):
        answer = register(api, group_a, key, **more)
        assert (answer.status_code, answer["Content-Type"]) == (403, "application/problem+json")
        assert "suspended" in answer.json()["detail"]
    assert not Device.objects.exists()
    Tenant.objects.update(suspended_at=None)
    assert register(api, group_a, key).status_code == 201, "no use was counted"


@pytest.mark.parametrize("what", ["tenant", "credentials", "status"])
def test_the_token_of_a_revoked_device_or_a_suspended_tenant_opens_nothing(
    api: APIClient, group_a: Group, what: str
) -> None:
    enrolled = enrol(group_a, "anna-laptop")
    path = f"/api/nats/device/{enrolled.device.pk}/{what}"
    Device.objects.update(revoked_at=timezone.now())
    answer = api.get(path, **enrolled.authorization)
    assert answer.status_code == 403
    assert "revoked" in answer.json()["detail"]
    Device.objects.update(revoked_at=None)
    Tenant.objects.update(suspended_at=timezone.now())
    answer = api.get(path, **enrolled.authorization)
    assert answer.status_code == 403
    assert "suspended" in answer.json()["detail"]


def test_an_admin_moves_a_device_over_and_its_agent_goes_on_with_the_token(
    api: APIClient, old_device: Device, alice: User
) -> None:
    answer = upgrade(api, old_device, authorization(alice))
    assert answer.status_code == 200, answer.json()
    assert answer["Cache-Control"] == "no-store"
    body = answer.json()
    assert body["nats_credentials"]["username"] == f"device_{old_device.pk}"
    assert Connectivity.objects.get().connection_type == "node-red"
    path = f"/api/nats/device/{old_device.pk}/credentials"
    assert api.get(path, **bearer(body["device_token"])).status_code == 200
    entry = AuditEntry.objects.get(action=Action.DEVICE_UPGRADED)
    assert (entry.actor, entry.tenant_uuid) == ("alice", old_device.tenant_id)
    assert entry.detail == {"connection_type": "node-red"}


def test_a_device_with_a_key_pair_moves_over_to_a_jwt(
    api: APIClient, old_device: Device, alice: User
) -> None:
    public = nkeys.generate("user").public
    body = upgrade(api, old_device, authorization(alice), nkey_public=public).json()
    jwt = decode_jwt(body["nats_credentials"]["jwt"])
    assert (jwt["sub"], jwt["name"]) == (public, str(old_device.pk))


def test_the_device_itself_moves_over_and_keeps_its_token(
    api: APIClient, old_device: Device, alice: User, group_a: Group
) -> None:
    token = upgrade(api, old_device, authorization(alice)).json()["device_token"]
    answer = upgrade(api, old_device, bearer(token))
    assert answer.status_code == 200
    assert "device_token" not in answer.json()
    path = f"/api/nats/device/{old_device.pk}/status"
    assert api.get(path, **bearer(token)).status_code == 200
    assert upgrade(api, old_device, enrol(group_a, "sibling").authorization).status_code == 404


def test_nobody_else_moves_it_over(
    api: APIClient, old_device: Device, tenant_a: Tenant, bob: User, alice: User, charlie: User
) -> None:
    oscar = person("oscar", tenant_a, Role.OPERATOR)
    assert upgrade(api, old_device, authorization(charlie)).status_code == 404
    assert upgrade(api, old_device, {}).status_code == 401
    for headers in (
        authorization(bob),
        authorization(oscar),
        authorization(alice, Role.OPERATOR),
    ):
        assert upgrade(api, old_device, headers).status_code == 403
    assert Connectivity.objects.get().connection_type == "node-red"
    assert not Credential.objects.exists()


def test_an_upgrade_whose_answer_was_lost_is_repeated_and_voids_the_first(
    api: APIClient, old_device: Device, alice: User
) -> None:
    first = upgrade(api, old_device, authorization(alice)).json()
    second = upgrade(api, old_device, authorization(alice)).json()
    path = f"/api/nats/device/{old_device.pk}/status"
    assert api.get(path, **bearer(first["device_token"])).status_code == 401
    assert api.get(path, **bearer(second["device_token"])).status_code == 200
    old, new = first["nats_credentials"], second["nats_credentials"]
    assert not is_valid(old)
    assert is_valid(new)


def test_a_device_cannot_fill_its_tenants_claims_with_revocations(
    api: APIClient, old_device: Device, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enrolment, "MOST_UPGRADES", 2)
    answers = [
        upgrade(
            api, old_device, authorization(alice), nkey_public=nkeys.generate("user").public
        ).status_code
        for _ in range(3)
    ]
    assert answers == [200, 200, 409]


def test_once_its_agent_has_logged_in_a_device_cannot_be_taken_over(
    api: APIClient, old_device: Device, alice: User
) -> None:
    upgrade(api, old_device, authorization(alice))
    record_password_uses(Credential.objects.all())
    answer = upgrade(api, old_device, authorization(alice))
    assert (answer.status_code, answer["Content-Type"]) == (409, "application/problem+json")


def test_an_upgrade_that_cannot_be_is_refused_with_the_reason(
    api: APIClient, old_device: Device, group_a: Group, alice: User
) -> None:
    headers = authorization(alice)
    answer = upgrade(api, old_device, headers, nkey_public="UNONSENSE")
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["field"] == "nkey_public"
    taken = enrol(group_a, "other").key.public
    assert upgrade(api, old_device, headers, nkey_public=taken).status_code == 409
    Device.objects.filter(pk=old_device.pk).update(revoked_at=timezone.now())
    assert "revoked" in upgrade(api, old_device, headers).json()["detail"]
    Device.objects.filter(pk=old_device.pk).update(revoked_at=None)
    Tenant.objects.update(suspended_at=timezone.now())
    assert "suspended" in upgrade(api, old_device, headers).json()["detail"]
    assert Connectivity.objects.get(device=old_device).connection_type == "node-red"


def test_a_device_is_recorded_under_the_uuid_it_has_and_once(
    group_a: Group, group_b: Group, alice: User
) -> None:
    known = uuid.uuid4()
    device = enrolment.record_existing(group_a, "old-one", uuid=known, by=alice)
    assert (device.pk, device.tenant_id) == (known, group_a.tenant_id)
    entry = AuditEntry.objects.get(action=Action.DEVICE_REGISTERED)
    assert (entry.actor, entry.detail) == ("alice", {"connection_type": "node-red"})
    with pytest.raises(AlreadyRegistered):
        enrolment.record_existing(group_b, "stolen", uuid=known, by=alice)
    assert Device.objects.get().name == "old-one"


def test_a_revoked_devices_key_pair_is_not_registered_again(api: APIClient, group_a: Group) -> None:
    enrolled: Enrolled = enrol(group_a, "anna-laptop")
    Device.objects.update(revoked_at=timezone.now())
    _, plain = create_enrollment_key(group_a, name="more", max_uses=None)
    answer = register(api, group_a, plain, nkey_public=enrolled.key.public)
    assert answer.status_code == 409, "without a proof it is not even told that it is revoked"
