"""The history of a device's online and offline times, and who may see it."""

from datetime import timedelta

from django.test import Client
from django.utils import timezone

from devices.models import Connectivity, Device, Presence, PresenceChange, Reporter
from natsbridge.models import Coverage
from tenants.models import User


def path(device: Device) -> str:
    return f"/devices/{device.pk}/presence/"


def changed(device: Device, presence: Presence, hours_ago: float, reason: str = "") -> None:
    PresenceChange.objects.create(
        device=device,
        presence=presence,
        at=timezone.now() - timedelta(hours=hours_ago),
        reported_by=Reporter.DISCONNECT if reason else Reporter.CONNECT,
        reason=reason,
    )


def test_a_member_sees_when_it_was_online_and_why_it_was_not(
    client: Client, bob: User, device_a: Device
) -> None:
    Coverage.objects.create(last_beat=timezone.now())
    changed(device_a, Presence.ONLINE, 30)
    changed(device_a, Presence.OFFLINE, 12, "Stale Connection")
    changed(device_a, Presence.ONLINE, 6)
    client.force_login(bob)
    answer = client.get(path(device_a), headers={"HX-Request": "true"})
    states = [(span["state"], round(span["width"])) for span in answer.context["bar"]]
    assert states == [("online", 500), ("offline", 250), ("online", 250)]
    assert answer.context["share"] == 75.0
    assert "Stale Connection" in answer.content.decode()
    week = client.get(f"{path(device_a)}?days=7", headers={"HX-Request": "true"})
    assert week.context["bar"][0]["state"] == "unknown"


def test_a_change_older_than_the_history_is_known_from_the_device_itself(
    client: Client, bob: User, device_a: Device
) -> None:
    Coverage.objects.create(last_beat=timezone.now())
    long_ago = timezone.now() - timedelta(days=200)
    Connectivity.objects.filter(device=device_a).update(presence="online", presence_at=long_ago)
    client.force_login(bob)
    answer = client.get(path(device_a), headers={"HX-Request": "true"})
    assert [span["state"] for span in answer.context["bar"]] == ["online"]


def test_another_tenants_member_finds_nothing(
    client: Client, charlie: User, device_a: Device
) -> None:
    client.force_login(charlie)
    assert client.get(path(device_a)).status_code == 404
    assert client.get(path(device_a), headers={"HX-Request": "true"}).status_code == 404


def test_without_scripts_a_range_is_the_devices_own_page(
    client: Client, bob: User, device_a: Device
) -> None:
    client.force_login(bob)
    answer = client.get(f"{path(device_a)}?days=7")
    assert answer["Location"] == f"/devices/{device_a.pk}/?days=7"
