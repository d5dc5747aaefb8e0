"""What may be said of a device, from when it was last seen and who was listening."""

from datetime import UTC, datetime, timedelta

import pytest

from devices.models import Connectivity, Device
from devices.presence import Status, Watch, cutoffs
from tenants.models import Group
from tests.people import enrol

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
ONLINE, STALE = timedelta(minutes=2), timedelta(minutes=10)


def ago(minutes: float) -> datetime:
    return NOW - timedelta(minutes=minutes)


def said(last_seen: datetime | None, watch: Watch) -> Status:
    return cutoffs(watch, NOW, ONLINE, STALE).status_of(last_seen)


ALWAYS = Watch(last_beat=NOW)


@pytest.mark.parametrize(
    ("minutes", "status"),
    [(0, "Online"), (1.9, "Online"), (2.1, "Stale"), (9.9, "Stale"), (10.1, "Offline")],
)
def test_silence_goes_from_online_over_stale_to_offline(minutes: float, status: str) -> None:
    assert said(ago(minutes), ALWAYS) == status


def test_a_device_never_seen_is_offline() -> None:
    assert said(None, ALWAYS) is Status.OFFLINE


@pytest.mark.parametrize("watch", [Watch(), Watch(last_beat=ago(0.5))])
def test_nobody_listening_means_unknown_and_never_a_mass_offline(watch: Watch) -> None:
    assert {said(ago(minutes), watch) for minutes in (0, 5, 500)} == {Status.UNKNOWN}


def after_a_gap(ended: float) -> Watch:
    """An hour in which nobody listened, over since `ended` minutes."""
    return Watch(last_beat=NOW, gap_started=ago(ended + 60), gap_ended=ago(ended))


def test_after_a_gap_a_device_has_the_time_of_a_heartbeat_to_speak() -> None:
    watch = after_a_gap(ended=1)
    assert said(ago(0.5), watch) is Status.ONLINE
    assert said(ago(62), watch) is Status.UNKNOWN
    assert said(ago(69), watch) is Status.UNKNOWN


def test_a_device_that_was_offline_before_the_gap_is_offline_after_it() -> None:
    assert said(ago(75), after_a_gap(ended=1)) is Status.OFFLINE


def test_a_device_that_stays_silent_after_a_gap_is_stale_and_then_offline() -> None:
    assert said(ago(66), after_a_gap(ended=3)) is Status.STALE
    assert said(ago(71), after_a_gap(ended=9)) is Status.OFFLINE


@pytest.mark.parametrize("watch", [ALWAYS, Watch(), after_a_gap(1), after_a_gap(5)])
def test_the_filter_finds_what_the_status_says(group_a: Group, watch: Watch) -> None:
    now = cutoffs(watch, NOW, ONLINE, STALE)
    for minutes in (None, 0, 1.5, 3, 9, 11, 61.5, 62, 64, 66, 69, 75, 500):
        device = enrol(group_a, f"seen {minutes}").device
        seen = None if minutes is None else ago(minutes)
        Connectivity.objects.filter(device=device).update(last_seen_online=seen)
    for status in Status:
        found = set(Device.objects.with_status(status, now))
        expected = {
            device
            for device in Device.objects.select_related("connectivity")
            if now.status_of(device.connectivity.last_seen_online) is status
        }
        assert found == expected
