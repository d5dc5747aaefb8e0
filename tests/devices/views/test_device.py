import re
import time
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone
from pytest_django.fixtures import Settings

from devices.models import Connectivity, Device
from devices.telemetry import ring_buffers
from devices.telemetry.ring_buffers import Point
from natsbridge.models import Coverage
from natsbridge.rules.metering import Excess
from tenants.broker.floods import Sender, record_flood
from tests.plugin import allot_port
from tests.support.people import logged_in

pytestmark = pytest.mark.usefixtures("redis_server")


def page(client: Client, device: Device) -> str:
    answer = client.get(f"/devices/{device.pk}/")
    assert answer.status_code == 200
    return answer.content.decode()


def heard(device: Device, **fields: object) -> Connectivity:
    now = timezone.now()
    given = {"last_heartbeat": now, "last_seen_online": now, "agent_version": "1.2.3"} | fields
    return Connectivity.objects.update_or_create(device=device, defaults=given)[0]


def test_members_see_the_device_and_to_others_it_does_not_exist(
    as_alice: Client, as_bob: Client, as_charlie: Client, device_a: Device
) -> None:
    assert "anna-laptop" in page(as_alice, device_a)
    assert "anna-laptop" in page(as_bob, device_a)
    for path in ("", "status/", "form/", "commands/"):
        answer = as_charlie.get(f"/devices/{device_a.pk}/{path}")
        assert answer.status_code == 404, path
        assert b"anna-laptop" not in answer.content


def test_the_page_has_the_recent_window_and_the_latest_values(
    as_alice: Client, device_a: Device
) -> None:
    now = round(time.time() * 1000)
    ring_buffers.append(
        {
            (device_a.pk, "cpu_percent"): [Point(now - 2000, 41.0), Point(now, 42.25)],
            (device_a.pk, "network_bytes_in"): [Point(now, 1_234_567.0)],
            (device_a.pk, "uptime"): [Point(now, 93_784.0)],
        }
    )
    answer = as_alice.get(f"/devices/{device_a.pk}/")
    body = answer.content.decode()
    assert "42.2 %" in body
    assert "1.2 MB/s" in body
    assert "1 d 2 h" in body
    points = answer.context["snapshot"]["metrics"]["cpu_percent"]
    assert [point["value"] for point in points] == [41.0, 42.25]


def test_without_redis_the_page_still_shows_what_the_database_knows(
    as_alice: Client, device_a: Device, settings: Settings
) -> None:
    settings.METRICS_REDIS_URL = f"redis://127.0.0.1:{allot_port()}/0"
    heard(device_a, connection_info={"system_info": {"hostname": "anna.example"}})
    body = page(as_alice, device_a)
    assert "Live metrics are unavailable: Redis is not responding." in body
    assert "anna.example" in body


def test_a_device_that_was_never_heard_has_a_page(as_alice: Client, device_a: Device) -> None:
    Connectivity.objects.filter(device=device_a).delete()
    assert "It has not connected yet." in page(as_alice, device_a)


@pytest.mark.parametrize(
    ("age", "status", "explanation"),
    [
        (timedelta(seconds=3), "Online", "by heartbeat over NATS"),
        (timedelta(minutes=4), "Stale", "after 10 minutes the device counts as offline"),
        (timedelta(days=4), "Offline", "Last seen"),
    ],
)
def test_the_status_is_explained(
    as_alice: Client,
    device_a: Device,
    listening: Coverage,
    age: timedelta,
    status: str,
    explanation: str,
) -> None:
    at = timezone.now() - age
    heard(device_a, last_heartbeat=at, last_seen_online=at)
    body = as_alice.get(f"/devices/{device_a.pk}/status/").content.decode()
    assert f"is-{status.lower()}" in body
    assert explanation in body


def test_while_nobody_listens_the_page_says_that_silence_means_nothing(
    as_alice: Client, device_a: Device
) -> None:
    heard(device_a)
    body = page(as_alice, device_a)
    assert "is-unknown" in body
    assert "not connected to the broker" in body


def test_a_clock_that_is_off_is_pointed_out(as_alice: Client, device_a: Device) -> None:
    heard(device_a, clock_offset_seconds=-1234.0)
    assert "20 min behind the server" in page(as_alice, device_a)
    heard(device_a, clock_offset_seconds=12.0)
    assert "behind" not in page(as_alice, device_a)


def test_system_information_is_laid_out_with_its_own_keys_in_their_order(
    as_alice: Client, device_a: Device
) -> None:
    information = {
        "system_info": {"memory_total": 16_000_000_000, "hostname": "anna", "eth0": 9, "cpu": 1},
        "status": {"uptime": 7200},
    }
    heard(device_a, connection_info=information)
    body = page(as_alice, device_a)
    assert "16.0 GB" in body
    assert "2 h 0 min" in body
    _, system = body.split('<div id="information">')
    keys = re.findall(r"<dt>(\w+)</dt>", system)
    assert keys[:5] == ["memory_total", "hostname", "eth0", "cpu", "uptime"]


def test_the_number_of_queries_is_bounded(
    as_alice: Client, device_a: Device, django_assert_max_num_queries: object
) -> None:
    with django_assert_max_num_queries(20):  # type: ignore[operator]
        page(as_alice, device_a)


def test_a_page_that_does_not_exist_looks_like_ours(as_alice: Client) -> None:
    answer = as_alice.get("/nothing/here/")
    assert answer.status_code == 404
    assert b"Page not found" in answer.content


def test_staff_find_the_admin_and_others_do_not(as_alice: Client, as_bob: Client) -> None:
    alice = as_alice.get("/").context["user"]
    alice.is_staff = True
    alice.save()
    assert b'href="/admin/"' in logged_in(alice).get("/").content
    assert b'href="/admin/"' not in as_bob.get("/").content


def test_the_page_says_that_the_device_was_disconnected_for_sending_too_much(
    as_bob: Client, device_a: Device
) -> None:
    assert "sending too much" not in page(as_bob, device_a)
    sender = Sender(device_a.tenant_id, device_a.pk)
    row = record_flood(sender, Excess(54_321.0, 6_000_000.0, ()))
    assert row
    found = page(as_bob, device_a)
    assert "it sent too much: 54321 messages" in found
    assert "500 messages are allowed" in found
    assert "cannot connect again" not in found
    row.until = timezone.now() + timedelta(minutes=1)
    row.save()
    assert "It cannot connect again until" in page(as_bob, device_a)
