"""The admin's buttons that revoke, reinstate, rotate and delete devices."""

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from devices.enrolment.credentials import revoke_device
from devices.models import Device, RealtimeData
from tenants.credentials.issue import issue_device_password
from tenants.models import Action, AuditEntry, Credential, User
from tests.support.people import renews_by_command

DEVICES = reverse("admin:devices_device_changelist")
BUTTONS = ["revoke", "reinstate", "rotate"]


@pytest.fixture
def staff(client: Client, db: None) -> User:
    """A user who may change devices and is not a superuser."""
    user = User.objects.create_user("sam", is_staff=True)
    user.user_permissions.set(
        Permission.objects.filter(codename__in=["view_device", "change_device"])
    )
    client.force_login(user)
    return user


def page_of(device: Device, view: str = "change") -> str:
    return reverse(f"admin:devices_device_{view}", args=[device.pk])


@pytest.mark.parametrize("button", BUTTONS)
def test_who_may_only_look_at_devices_controls_none(
    client: Client, device_a: Device, button: str
) -> None:
    user = User.objects.create_user("stella", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_device"))
    client.force_login(user)
    assert page_of(device_a, button) not in client.get(page_of(device_a)).content.decode()
    for send in (client.get, client.post):
        assert send(page_of(device_a, button), {"reason": "x"}).status_code == 403
    client.post(DEVICES, {"action": "revoke_selected", "_selected_action": [device_a.pk]})
    assert Device.objects.get().revoked_at is None


@pytest.mark.parametrize("button", BUTTONS)
def test_members_who_are_no_staff_do_not_get_there(
    client: Client, device_a: Device, alice: User, button: str
) -> None:
    client.force_login(alice)
    assert client.post(page_of(device_a, button), {"reason": "x"}).status_code == 302
    assert Device.objects.get().revoked_at is None


def test_a_device_is_revoked_with_a_reason_and_reinstated(
    client: Client, staff: User, device_a: Device
) -> None:
    revoke, reinstate = page_of(device_a, "revoke"), page_of(device_a, "reinstate")
    page = client.get(page_of(device_a)).content.decode()
    assert (revoke in page, reinstate in page) == (True, False)
    assert "Revoke anna-laptop" in client.get(revoke).content.decode()
    assert client.post(revoke, {"reason": ""}).context["form"].errors.keys() == {"reason"}
    assert Device.objects.get().revoked_at is None
    answer = client.post(revoke, {"reason": "lost in <Bern>"})
    assert answer.headers["Location"] == page_of(device_a)
    assert Device.objects.get().revoked_by == staff
    page = client.get(page_of(device_a)).content.decode()
    assert "by sam: lost in &lt;Bern&gt;" in page
    assert (revoke in page, reinstate in page) == (False, True)
    assert AuditEntry.objects.get(action=Action.DEVICE_REVOKED).actor == "sam"
    client.post(reinstate)
    assert Device.objects.get().revoked_at is None


def test_a_rotation_that_is_refused_shows_why(
    client: Client, staff: User, device_a: Device
) -> None:
    issued = issue_device_password(device_a.tenant_id, device_a.pk)
    rotate = page_of(device_a, "rotate")
    assert "locked out" in client.post(rotate, {"overlap": "2h"}).content.decode()
    renews_by_command(device_a)
    assert client.post(rotate, {"overlap": "2h"}).status_code == 302
    ends_at = Credential.objects.get(pk=issued.credential.pk).ends_at
    assert ends_at is not None
    assert ends_at > timezone.now()
    assert "A rotation is running" in client.post(rotate, {"overlap": "1h"}).content.decode()


def test_selected_devices_are_revoked_once_a_reason_is_given(
    client: Client, staff: User, device_a: Device, device_b: Device
) -> None:
    form = {"action": "revoke_selected", "_selected_action": [device_a.pk, device_b.pk]}
    question = client.post(DEVICES, form).content.decode()
    assert "anna-laptop" in question
    assert "berta-server" in question
    assert not Device.objects.exclude(revoked_at=None).exists()
    client.post(DEVICES, {**form, "confirmed": "yes", "reason": ""})
    assert not Device.objects.exclude(revoked_at=None).exists()
    client.post(DEVICES, {**form, "confirmed": "yes", "reason": "the office burnt down"})
    assert Device.objects.filter(revoked_reason="the office burnt down").count() == 2
    assert "Revoked" in client.get(DEVICES, {"revoked": "yes"}).content.decode()
    assert client.get(DEVICES, {"revoked": "no"}).context["cl"].result_count == 0


def test_a_superuser_deletes_a_device_and_what_it_held_is_void(
    client: Client, device_a: Device, redis_server: object
) -> None:
    issue_device_password(device_a.tenant_id, device_a.pk)
    client.force_login(User.objects.create_superuser("sue"))
    client.post(page_of(device_a, "delete"), {"post": "yes"})
    assert not Device.objects.exists()
    assert Credential.objects.exists()
    assert not Credential.objects.live().exists()
    assert AuditEntry.objects.get(action=Action.DEVICE_DELETED).actor == "sue"


def test_selected_devices_are_deleted_by_a_superuser_once_a_reason_is_given(
    client: Client, staff: User, device_a: Device, device_b: Device, redis_server: object
) -> None:
    selected = {"action": "delete_with_reason", "_selected_action": [device_a.pk]}
    confirmed = {**selected, "confirmed": "yes", "reason": "scrapped"}
    client.post(DEVICES, confirmed)
    assert Device.objects.count() == 2
    client.force_login(User.objects.create_superuser("sue"))
    assert "anna-laptop" in client.post(DEVICES, selected).content.decode()
    client.post(DEVICES, {**confirmed, "reason": ""})
    assert Device.objects.count() == 2
    client.post(DEVICES, {**selected, "action": "delete_selected", "post": "yes"})
    assert Device.objects.count() == 2
    client.post(DEVICES, confirmed)
    assert list(Device.objects.all()) == [device_b]
    deleted = AuditEntry.objects.get(action=Action.DEVICE_DELETED)
    assert (deleted.actor, deleted.detail["reason"]) == ("sue", "scrapped")


def test_a_devices_page_lists_its_credentials_and_its_access(
    client: Client, staff: User, device_a: Device
) -> None:
    issued = issue_device_password(device_a.tenant_id, device_a.pk)
    revoke_device(device_a, by=None, reason="")
    page = client.get(page_of(device_a)).content.decode()
    assert f"Password {issued.credential.pk}" in page
    assert issued.secret not in page
    assert "by the platform: no reason given" in page


def test_what_a_device_reported_last_is_for_who_may_see_devices(
    client: Client, staff: User, device_a: Device
) -> None:
    row = RealtimeData.objects.create(
        device=device_a, kind="sysinfo", data={"x": 1}, received_at=timezone.now()
    )
    own = reverse("admin:devices_realtimedata_change", args=[row.pk])
    assert client.get(own).status_code == 200
    client.force_login(User.objects.create_user("stella", is_staff=True))
    assert client.get(own).status_code == 403
