"""A tenant's own page: its credentials and its keys, for its admins."""

import pytest
from django.test import Client
from pytest_django.fixtures import Settings

from devices.models import Device
from tenants.actions.suspension import suspend_tenant
from tenants.broker.accounts import record_provisioning_failed
from tenants.credentials.issue import issue_device_password
from tenants.models import BrokerKey, Credential, Role, Tenant, User, hash_token
from tests.support.people import person, renews_by_command, shown


def path(tenant: Tenant, part: str = "") -> str:
    return f"/tenant/{tenant.pk}/{part}"


def rotated(client: Client, tenant: Tenant, **fields: object) -> str:
    """The secret that the page shows."""
    address = path(tenant, "rotate/")
    form = client.get(address).context["form"]
    body = {"kind": "password", "overlap": "1h", "seen": form["seen"].value(), **fields}
    answer = shown(client, client.post(address, body))
    assert "no-store" in answer.headers["Cache-Control"]
    secret: str = answer.context["secret"]
    assert secret in answer.content.decode()
    return secret


def is_valid(password: str) -> bool:
    return Credential.objects.live().filter(digest=hash_token(password)).exists()


@pytest.mark.parametrize("part", ["", "issue/", "rotate/", "rotate-keys/"])
def test_a_tenants_page_is_for_its_admins(
    client: Client,
    as_alice: Client,
    as_bob: Client,
    as_charlie: Client,
    tenant_a: Tenant,
    part: str,
) -> None:
    address = path(tenant_a, part)
    body = {"kind": "jwt", "overlap": "1h", "seen": 0}
    assert client.get(address).status_code == 302
    for other, status in ((as_bob, 403), (as_charlie, 404)):
        assert other.get(address).status_code == status
        if part:
            assert other.post(address, body).status_code == status
    assert as_alice.get(address).status_code == 200
    assert not Credential.objects.exists()


def test_the_page_says_how_many_devices_there_may_be(
    as_alice: Client, device_a: Device, settings: Settings
) -> None:
    settings.TENANT_MAX_DEVICES = 1234
    assert "of at most 1,234" in as_alice.get(path(device_a.tenant)).content.decode()
    settings.TENANT_MAX_DEVICES = -1
    assert "of at most" not in as_alice.get(path(device_a.tenant)).content.decode()


def test_admins_find_the_page_from_the_fleet_and_others_do_not(
    as_alice: Client, as_bob: Client, device_a: Device
) -> None:
    link = f'href="{path(device_a.tenant)}"'
    assert link in as_alice.get("/").content.decode()
    assert link not in as_bob.get("/").content.decode()


def test_a_rotated_credential_is_shown_once_and_works(as_alice: Client, tenant_a: Tenant) -> None:
    secret = rotated(as_alice, tenant_a)
    assert is_valid(secret)
    page = as_alice.get(path(tenant_a)).content.decode()
    assert secret not in page
    assert f"tenant_{tenant_a.pk}" in page
    assert "-----BEGIN NATS USER JWT-----" in rotated(as_alice, tenant_a, kind="jwt")
    states = [each.state for each in Credential.objects.all()]
    assert states == ["live", "live"], "one of each kind"


def test_one_more_credential_leaves_those_in_use_as_they_are(
    as_alice: Client, tenant_a: Tenant
) -> None:
    page = as_alice.get(path(tenant_a)).content.decode()
    assert path(tenant_a, "issue/") in page
    assert path(tenant_a, "rotate/") not in page, "there is none to rotate"
    for _ in range(2):
        answer = shown(as_alice, as_alice.post(path(tenant_a, "issue/"), {"kind": "jwt"}))
        assert "no-store" in answer.headers["Cache-Control"]
    page = answer.content.decode()
    assert "remains valid" in page
    assert f"tenant_{tenant_a.pk}" in page
    assert 'data-name="acme.creds"' in page
    assert [each.state for each in Credential.objects.all()] == ["live", "live"]
    assert path(tenant_a, "rotate/") in as_alice.get(path(tenant_a)).content.decode()


def test_a_reload_of_the_page_with_the_secret_makes_no_second_credential(
    as_alice: Client, tenant_a: Tenant
) -> None:
    posted = as_alice.post(path(tenant_a, "issue/"), {"kind": "password"})
    secret = shown(as_alice, posted).context["secret"]
    assert secret not in posted["Location"]
    again = as_alice.get(posted["Location"])
    assert again.status_code == 410
    assert secret not in again.content.decode()
    assert Credential.objects.count() == 1


def test_nobody_else_opens_the_page_with_the_secret(
    as_alice: Client, as_bob: Client, as_charlie: Client, client: Client, tenant_a: Tenant
) -> None:
    posted = as_alice.post(path(tenant_a, "issue/"), {"kind": "password"})
    address = posted["Location"]
    answers = [other.get(address).status_code for other in (client, as_bob, as_charlie)]
    assert answers == [302, 403, 404]
    dora = Client()
    dora.force_login(person("dora", tenant_a, Role.ADMIN))
    assert dora.get(address).status_code == 410, "an admin of the tenant, who did not make it"
    assert shown(as_alice, posted).context["secret"]


def test_the_new_credentials_page_says_when_the_old_one_ends(
    as_alice: Client, tenant_a: Tenant
) -> None:
    rotated(as_alice, tenant_a)
    form = as_alice.get(path(tenant_a, "rotate/")).context["form"]
    body = {"kind": "password", "overlap": "1h", "seen": form["seen"].value()}
    page = shown(as_alice, as_alice.post(path(tenant_a, "rotate/"), body)).content.decode()
    assert "or until this one has been used" in page


def test_devices_whose_agents_cannot_be_told_are_named_before_all_is_rotated(
    as_alice: Client, device_a: Device
) -> None:
    issue_device_password(device_a.tenant_id, device_a.pk)
    rotate = path(device_a.tenant, "rotate/")
    assert "The agents of 1 device (anna-laptop) do not" in as_alice.get(rotate).content.decode()
    renews_by_command(device_a)
    assert "The agents of" not in as_alice.get(rotate).content.decode()


@pytest.mark.parametrize("every_device", ["", "on"])
def test_of_two_who_rotate_at_once_one_is_told(
    as_alice: Client, tenant_a: Tenant, every_device: str
) -> None:
    rotated(as_alice, tenant_a)
    seen = Credential.objects.get().pk
    rotated(as_alice, tenant_a, overlap="0")
    body = {"kind": "password", "overlap": "1h", "seen": seen, "every_device": every_device}
    answer = as_alice.post(path(tenant_a, "rotate/"), body)
    assert answer.status_code == 409
    assert b"Somebody else has rotated" in answer.content


def test_those_of_the_devices_are_rotated_when_that_is_asked_for(
    as_alice: Client, device_a: Device
) -> None:
    issued = issue_device_password(device_a.tenant_id, device_a.pk)
    rotated(as_alice, device_a.tenant)
    assert Credential.objects.get(pk=issued.credential.pk).ends_at is None
    rotated(as_alice, device_a.tenant, overlap="0", every_device="on")
    assert Credential.objects.get(pk=issued.credential.pk).ended_at


def test_a_credential_is_revoked_with_a_reason(
    as_alice: Client, as_bob: Client, as_charlie: Client, tenant_a: Tenant
) -> None:
    secret = rotated(as_alice, tenant_a)
    revoke = path(tenant_a, f"credentials/{Credential.objects.get().pk}/revoke/")
    assert f'href="{revoke}"' in as_alice.get(path(tenant_a)).content.decode()
    for other, status in ((as_bob, 403), (as_charlie, 404)):
        assert other.post(revoke, {"reason": "leaked"}).status_code == status
    assert as_alice.post(revoke, {"reason": ""}).status_code == 422
    assert is_valid(secret)
    assert as_alice.post(revoke, {"reason": "leaked"}).status_code == 302
    assert not is_valid(secret)
    page = as_alice.get(path(tenant_a)).content.decode()
    assert "by alice: leaked" in page
    assert f'href="{revoke}"' not in page


def test_a_devices_credential_is_not_reached_as_the_tenants(
    as_alice: Client, device_a: Device
) -> None:
    issued = issue_device_password(device_a.tenant_id, device_a.pk)
    revoke = path(device_a.tenant, f"credentials/{issued.credential.pk}/revoke/")
    assert as_alice.get(revoke).status_code == 404


def test_the_signing_keys_are_rotated(as_alice: Client, tenant_a: Tenant) -> None:
    answer = as_alice.post(path(tenant_a, "rotate-keys/"), {"overlap": "1h"})
    assert answer.headers["Location"] == path(tenant_a)
    assert BrokerKey.objects.filter(tenant=tenant_a).exclude(retires_at=None).count() == 2
    again = as_alice.post(path(tenant_a, "rotate-keys/"), {"overlap": "1h"})
    assert (again.status_code, b"keys are still valid" in again.content) == (409, True)


def test_a_tenants_page_says_how_it_stands(as_alice: Client, tenant_a: Tenant, bob: User) -> None:
    assert b"Pending changes." in as_alice.get(path(tenant_a)).content
    record_provisioning_failed(tenant_a, "no disk left")
    assert b"no disk left" in as_alice.get(path(tenant_a)).content
    suspend_tenant(tenant_a, by=bob, reason="the invoice")
    page = as_alice.get(path(tenant_a)).content.decode()
    assert "Acme is suspended" in page
    assert "Suspended by bob" in page
    for part in ("issue/", "rotate/"):
        assert f'href="{path(tenant_a, part)}"' not in page
    form = {"kind": "password", "overlap": "1h", "seen": 0}
    refused = as_alice.post(path(tenant_a, "rotate/"), form)
    assert (refused.status_code, b"suspended" in refused.content) == (409, True)
