"""The pages on which an admin of the tenant revokes, reinstates, rotates and deletes a device."""

import pytest
from django.test import Client
from django.utils import timezone

from devices.commands.issue import issue
from devices.enrolment.credentials import reinstate_device, revoke_device
from devices.models import Command, CommandState, Connectivity, Device
from natsbridge.models import Coverage
from tenants.actions.suspension import suspend_tenant
from tenants.credentials.issue import issue_device_password
from tenants.credentials.revocations import revoke_credential
from tenants.models import Credential, User
from tests.support.people import renews_by_command

pytestmark = pytest.mark.usefixtures("redis_server")

VERBS = ["revoke", "reinstate", "rotate", "delete"]


def path(device: Device, verb: str = "") -> str:
    return f"/devices/{device.pk}/" + (f"{verb}/" if verb else "")


@pytest.mark.parametrize("verb", VERBS)
def test_only_an_admin_of_the_tenant_is_asked(
    client: Client,
    as_alice: Client,
    as_bob: Client,
    as_charlie: Client,
    device_a: Device,
    verb: str,
) -> None:
    body = {"reason": "lost", "overlap": "1h"}
    address = path(device_a, verb)
    for send in (client.get, client.post):
        assert send(address, body).status_code == 302
    for person, status in ((as_bob, 403), (as_charlie, 404)):
        assert person.get(address).status_code == status
        assert person.post(address, body).status_code == status
    assert as_alice.get(address).status_code == 200
    assert Device.objects.get().revoked_at is None


@pytest.mark.parametrize("verb", VERBS)
def test_the_form_is_safe_from_other_sites(device_a: Device, alice: User, verb: str) -> None:
    careful = Client(enforce_csrf_checks=True)
    careful.force_login(alice)
    assert careful.post(path(device_a, verb), {"reason": "x"}).status_code == 403
    assert b"csrfmiddlewaretoken" in careful.get(path(device_a, verb)).content


def test_the_device_page_offers_it_to_admins_only(
    as_alice: Client, as_bob: Client, device_a: Device, alice: User
) -> None:
    page = as_alice.get(path(device_a)).content.decode()
    assert path(device_a, "revoke") in page
    assert path(device_a, "reinstate") not in page
    assert path(device_a, "revoke") not in as_bob.get(path(device_a)).content.decode()
    revoke_device(device_a, by=alice, reason="lost")
    page = as_alice.get(path(device_a)).content.decode()
    assert path(device_a, "reinstate") in page
    assert path(device_a, "rotate") not in page


def test_everybody_sees_that_a_device_is_revoked_and_why(
    as_alice: Client, as_bob: Client, device_a: Device, listening: Coverage
) -> None:
    answer = as_alice.post(path(device_a, "revoke"), {"reason": "lost in <Bern>"})
    assert answer.headers["Location"] == path(device_a)
    for address in (path(device_a), path(device_a, "status")):
        page = as_bob.get(address).content.decode()
        assert 'data-access="revoked"' in page
        assert "Revoked by alice" in page
        assert "lost in &lt;Bern&gt;" in page
    assert ">revoked</span>" in as_bob.get("/").content.decode()
    as_alice.post(path(device_a, "reinstate"))
    assert "data-access" not in as_bob.get(path(device_a)).content.decode()
    assert ">revoked</span>" not in as_bob.get("/").content.decode()


def test_a_revoked_device_is_offered_no_command(
    as_alice: Client, device_a: Device, alice: User
) -> None:
    assert b'id="send-command"' in as_alice.get(path(device_a)).content
    revoke_device(device_a, by=alice, reason="lost")
    for address in (path(device_a), path(device_a, "status")):
        page = as_alice.get(address).content.decode()
        assert "send-command" not in page
        assert "does not accept commands" in page


def test_a_device_of_a_suspended_tenant_is_offered_no_command(
    as_alice: Client, device_a: Device
) -> None:
    suspend_tenant(device_a.tenant, by=None, reason="the invoice")
    for address in (path(device_a), path(device_a, "status")):
        page = as_alice.get(address).content.decode()
        assert "send-command" not in page
        assert "do not accept commands" in page


def test_nothing_is_retried_while_the_device_is_revoked_or_its_tenant_suspended(
    as_alice: Client, device_a: Device, alice: User
) -> None:
    issue(device_a, "ping", {}, by=alice)
    Command.objects.update(state=CommandState.FAILED)
    assert "Retry ping" in as_alice.get(path(device_a)).content.decode()
    revoke_device(device_a, by=alice, reason="lost")
    assert "Retry ping" not in as_alice.get(path(device_a)).content.decode()
    reinstate_device(device_a, by=alice)
    suspend_tenant(device_a.tenant, by=None, reason="the invoice")
    assert "Retry ping" not in as_alice.get(path(device_a)).content.decode()


def test_a_revoked_device_is_offline_at_once(
    as_alice: Client, device_a: Device, alice: User, listening: Coverage
) -> None:
    Connectivity.objects.update_or_create(
        device=device_a,
        defaults={
            "last_seen_online": timezone.now(),
            "presence": "online",
            "presence_at": timezone.now(),
            "presence_by": "connect",
        },
    )
    assert ">Online</span>" in as_alice.get(path(device_a)).content.decode()
    revoke_device(device_a, by=alice, reason="lost")
    page = as_alice.get(path(device_a)).content.decode()
    assert ">Offline</span>" in page
    assert "Came online" not in page


def test_a_devices_credentials_are_listed_for_admins_of_its_tenant(
    client: Client, as_alice: Client, as_bob: Client, as_charlie: Client, device_a: Device
) -> None:
    address = path(device_a, "credentials")
    assert client.get(address).status_code == 302
    assert (as_bob.get(address).status_code, as_charlie.get(address).status_code) == (403, 404)
    assert b"No credentials yet" in as_alice.get(address).content
    old = issue_device_password(device_a.tenant_id, device_a.pk)
    revoke_credential(old.credential, by=None, reason="seen in a log")
    new = issue_device_password(device_a.tenant_id, device_a.pk)
    page = as_alice.get(address).content.decode()
    assert page.index(f"No. {new.credential.pk}<") < page.index(f"No. {old.credential.pk}<")
    assert "seen in a log" in page
    assert old.secret not in page
    assert new.secret not in page
    assert f'href="{address}"' in as_alice.get(path(device_a)).content.decode()


def test_everybody_sees_that_the_tenant_is_suspended_and_why(
    as_bob: Client, device_a: Device, alice: User
) -> None:
    suspend_tenant(device_a.tenant, by=None, reason="the invoice")
    page = as_bob.get(path(device_a)).content.decode()
    assert 'data-access="suspended"' in page
    assert "Suspended by the platform" in page
    assert "the invoice" in page
    assert ">suspended</span>" in as_bob.get("/").content.decode()


def test_revoking_without_a_reason_shows_what_is_wrong(as_alice: Client, device_a: Device) -> None:
    answer = as_alice.post(path(device_a, "revoke"), {"reason": " "})
    assert answer.status_code == 422
    assert b'id="id_reason_error"' in answer.content
    assert Device.objects.get().revoked_at is None


def test_a_rotation_that_is_refused_shows_why(as_alice: Client, device_a: Device) -> None:
    issued = issue_device_password(device_a.tenant_id, device_a.pk)
    assert as_alice.post(path(device_a, "rotate"), {"overlap": "nonsense"}).status_code == 422
    told = as_alice.post(path(device_a, "rotate"), {"overlap": "2h"})
    assert (told.status_code, b"locked out" in told.content) == (409, True)
    renews_by_command(device_a)
    assert as_alice.post(path(device_a, "rotate"), {"overlap": "2h"}).status_code == 302
    ends_at = Credential.objects.get(pk=issued.credential.pk).ends_at
    assert ends_at is not None
    assert ends_at > timezone.now()
    answer = as_alice.post(path(device_a, "rotate"), {"overlap": "1h"})
    assert answer.status_code == 409
    assert b"A rotation is running" in answer.content


def test_a_deleted_device_is_gone(as_alice: Client, device_a: Device) -> None:
    assert as_alice.post(path(device_a, "delete")).status_code == 422
    answer = as_alice.post(path(device_a, "delete"), {"reason": "scrapped"})
    assert answer.headers["Location"] == "/"
    assert not Device.objects.exists()
    assert as_alice.get(path(device_a)).status_code == 404
