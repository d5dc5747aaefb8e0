import time

import pytest
from django.conf import settings
from django.utils import timezone
from playwright.sync_api import Page, expect

from devices.commands.issue import issue
from devices.live import frames
from devices.models import (
    Command,
    CommandState,
    Connectivity,
    Device,
    Presence,
    PresenceChange,
    Reporter,
)
from devices.telemetry import ring_buffers
from devices.telemetry.ring_buffers import Point
from natsbridge.redis import client
from tenants.models import User
from tests.browser.conftest import Backend, Open, Web

OFFERED = [
    {"name": "ping", "description": "Answers.", "parameters": []},
    {
        "name": "measure",
        "parameters": [{"name": "limit", "type": "integer", "required": True}],
    },
]


@pytest.fixture
def device(device_a: Device) -> Device:
    Connectivity.objects.update_or_create(
        device=device_a,
        defaults={
            "last_seen_online": timezone.now(),
            "last_heartbeat": timezone.now(),
            "capabilities": {"commands": OFFERED},
        },
    )
    return device_a


def stream(device: Device, *values: float, ago: float = 0.0) -> None:
    """As the subscriber does: into the ring buffer and to the open pages, two seconds apart."""
    newest = round((time.time() - ago) * 1000)
    count = len(values)
    points = [
        Point(newest - 2000 * (count - 1 - index), value) for index, value in enumerate(values)
    ]
    series = {(device.pk, "cpu_percent"): points}
    ring_buffers.append(series)
    frames.push_metrics(series)


def finish(command: Command, result: object) -> None:
    Command.objects.filter(pk=command.pk).update(
        state=CommandState.SUCCEEDED,
        sent_at=timezone.now(),
        finished_at=timezone.now(),
        result=result,
    )
    frames.push_commands([Command.objects.get(pk=command.pk)])


def picture(page: Page) -> str:
    return str(page.locator("[data-metric=cpu_percent] canvas").evaluate("c => c.toDataURL()"))


def open_live(open_page: Open, user: User, device: Device, **options: object) -> Page:
    page = open_page(user, f"/devices/{device.pk}/", **options)
    expect(page.locator("#freshness")).to_have_text("live")
    return page


def test_the_chart_has_the_recent_window_and_moves_with_what_arrives(
    bob: User, device: Device, open_page: Open, backend: Backend
) -> None:
    backend(stream, device, *([10.0] * 60), ago=2)
    page = open_live(open_page, bob, device)
    cpu = page.locator("[data-metric=cpu_percent]")
    expect(cpu).to_have_attribute("data-points", "60")
    expect(cpu.locator("[data-value]")).to_have_text("10.0 %")
    before = picture(page)
    backend(stream, device, 87.5)
    expect(cpu.locator("[data-value]")).to_have_text("87.5 %")
    expect(cpu).to_have_attribute("data-points", "61")
    assert picture(page) != before


def test_no_line_is_drawn_over_a_gap_and_a_point_alone_is_a_dot(
    bob: User, device: Device, open_page: Open, backend: Backend
) -> None:
    for count, ago in ((20, 200), (1, 100), (20, 2)):
        backend(stream, device, *([10.0] * count), ago=ago)
    page = open_live(open_page, bob, device)
    cpu = page.locator("[data-metric=cpu_percent]")
    expect(cpu).to_have_attribute("data-points", "41")
    drawn = cpu.locator("canvas").evaluate(
        "c => { const { segments, points } = Chart.getChart(c).getDatasetMeta(0).dataset;"
        " return [segments.length, points.findIndex((point) => point.options.radius > 0)] }"
    )
    assert drawn == [3, 20]


def test_a_chart_without_data_has_no_made_up_scale(
    bob: User, device: Device, open_page: Open, backend: Backend
) -> None:
    page = open_live(open_page, bob, device)
    scales = """figures => figures.flatMap((figure) => {
      const { scales } = Chart.getChart(figure.querySelector("canvas"));
      return Object.values(scales).map((scale) => scale.options.display);
    })"""
    expect(page.locator("[data-metric][data-points='0']")).to_have_count(6)
    assert set(page.locator("[data-metric]").evaluate_all(scales)) == {False}
    expect(page.locator("[data-metric=uptime]")).to_contain_text("no data yet")
    backend(stream, device, 10.0)
    cpu = page.locator("[data-metric=cpu_percent]")
    expect(cpu).to_have_attribute("data-points", "1")
    assert set(cpu.evaluate_all(scales)) == {True}


def test_a_lost_frame_is_made_good_by_a_snapshot(
    bob: User, device: Device, open_page: Open, backend: Backend
) -> None:
    page = open_live(open_page, bob, device)
    cpu = page.locator("[data-metric=cpu_percent]")
    backend(stream, device, 1.0, ago=8)
    expect(cpu).to_have_attribute("data-points", "1")
    lost = {(device.pk, "cpu_percent"): [Point(round(time.time() * 1000) - 4000, 2.0)]}
    backend(ring_buffers.append, lost)
    backend(client(settings.REDIS_URL).incr, f"wegweiser:seq:{device.pk}")
    backend(stream, device, 3.0)
    expect(cpu).to_have_attribute("data-points", "3")


def test_a_silent_device_is_said_to_be_silent(
    bob: User, device: Device, open_page: Open, backend: Backend
) -> None:
    backend(stream, device, 5.0, ago=70)
    page = open_live(open_page, bob, device)
    expect(page.locator("[data-metric=cpu_percent]")).to_contain_text("no data for 1 min")
    expect(page.locator("[data-metric=uptime]")).to_contain_text("no data yet")
    backend(stream, device, 6.0)
    expect(page.locator("[data-metric=cpu_percent] [data-silence]")).to_be_hidden()


def test_a_command_is_sent_and_its_state_and_result_appear(
    alice: User, device: Device, open_page: Open, backend: Backend
) -> None:
    page = open_live(open_page, alice, device)
    page.get_by_role("button", name="Send").click()
    row = page.locator(".history li").first
    expect(row).to_contain_text("Queued")
    expect(row).to_contain_text("Waiting for the device")
    command = backend(Command.objects.get)
    backend(finish, command, {"message": "pong", "list": [{"pid": 1, "name": "init"}]})
    expect(row).to_contain_text("Succeeded")
    expect(row).to_contain_text("pong")
    expect(row.get_by_role("columnheader", name="PID")).to_be_visible()


def test_commands_of_others_appear_and_a_result_opens_when_it_is_asked_for(
    alice: User, bob: User, device: Device, open_page: Open, backend: Backend
) -> None:
    old = backend(issue, device, "ping", {}, by=alice)
    backend(finish, old, {"message": "from before"})
    page = open_live(open_page, bob, device)
    expect(page.get_by_role("button", name="Send")).to_be_disabled()
    expect(page.locator(".history li")).to_have_count(1)
    page.locator(".history summary").first.click()
    expect(page.get_by_text("from before").first).to_be_visible()
    expect(page.locator(f"#summary-{old.uuid}")).to_be_focused()
    commands = [backend(issue, device, "ping", {}, by=alice) for _ in range(3)]
    expect(page.locator(".history li")).to_have_count(4)
    for command in commands:
        backend(finish, command, {})
    expect(page.locator(".history .is-succeeded")).to_have_count(4)
    expect(page.get_by_text("from before").first).to_be_visible()


def test_a_wrong_parameter_is_named_at_its_field(
    alice: User, device: Device, open_page: Open, complaints: list[str]
) -> None:
    page = open_live(open_page, alice, device)
    page.get_by_role("combobox", name="Command").select_option("Other command…")
    page.get_by_label("Name of the command").fill("upgrade")
    page.get_by_label("parameters").fill("{broken")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_text("This is not valid JSON")).to_be_visible()
    expect(page.get_by_label("parameters")).to_have_value("{broken")
    assert all("422" in complaint for complaint in complaints)
    complaints.clear()


def test_a_waiting_command_is_cancelled(
    alice: User, device: Device, open_page: Open, backend: Backend
) -> None:
    backend(issue, device, "ping", {}, by=alice)
    page = open_live(open_page, alice, device)
    page.get_by_role("button", name="Cancel ping").click()
    expect(page.locator(".history li")).to_contain_text("Cancelled")
    expect(page.get_by_role("button", name="Cancel ping")).to_have_count(0)


def fail(command: Command) -> None:
    Command.objects.filter(pk=command.pk).update(
        state=CommandState.FAILED, error="no such table", finished_at=timezone.now()
    )
    frames.push_commands([Command.objects.get(pk=command.pk)])


def test_a_failure_that_comes_late_takes_the_place_of_the_one_that_was_assumed(
    alice: User, device: Device, open_page: Open, backend: Backend
) -> None:
    command = backend(issue, device, "ping", {}, by=alice)
    rows = Command.objects.filter(pk=command.pk)
    backend(rows.update, state=CommandState.FAILED, error="no response", finished_at=timezone.now())
    page = open_live(open_page, alice, device)
    row = page.locator(".history li").first
    row.locator("summary").click()
    expect(row).to_contain_text("no response")
    backend(fail, command)
    expect(row).to_contain_text("no such table")


def test_the_banner_of_a_sent_command_does_not_outlive_its_failure(
    alice: User, device: Device, open_page: Open, backend: Backend
) -> None:
    page = open_live(open_page, alice, device)
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_text("is on its way")).to_be_visible()
    backend(fail, backend(Command.objects.get))
    expect(page.locator(".history li").first).to_contain_text("no such table")
    expect(page.get_by_text("is on its way")).to_have_count(0)


def test_the_banner_of_a_sent_command_does_not_outlive_the_failure_to_send_the_next(
    alice: User, device: Device, open_page: Open, complaints: list[str]
) -> None:
    page = open_live(open_page, alice, device)
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_text("is on its way")).to_be_visible()
    page.route("**/commands/", lambda route: route.abort())
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_text("The server cannot be reached.")).to_be_visible()
    expect(page.get_by_text("is on its way")).to_have_count(0)
    complaints.clear()


def leave(device: Device) -> None:
    now, by = timezone.now(), Reporter.DISCONNECT
    Connectivity.objects.filter(device=device).update(
        presence=Presence.OFFLINE, presence_at=now, presence_by=by
    )
    PresenceChange.objects.create(
        device=device, presence=Presence.OFFLINE, at=now, reported_by=by, reason="Client Closed"
    )
    frames.push_presence([device.pk])


# So that only a frame tells the page of news.
STOP_POLLING = "clearTimeout(document.getElementById('status')['htmx-internal-data'].timeout)"


def test_a_frame_shows_everywhere_on_the_page_that_the_device_has_gone(
    alice: User, device: Device, open_page: Open, backend: Backend
) -> None:
    command = backend(issue, device, "ping", {}, by=alice)
    backend(Command.objects.filter(pk=command.pk).update, state=CommandState.SENT)
    page = open_live(open_page, alice, device)
    row = page.locator(".history li").first
    expect(row).to_contain_text("Sent")
    expect(row).not_to_contain_text("offline")
    expect(page.locator("#presence")).not_to_contain_text("Client Closed")
    page.evaluate(STOP_POLLING)
    backend(leave, device)
    expect(page.locator("#status-badge")).to_have_text("Offline")
    expect(row).to_contain_text("device offline since")
    expect(page.locator("#presence")).to_contain_text("Client Closed")
    page.get_by_role("button", name="Give up ping").click()
    expect(row).to_contain_text("given up by alice")
    expect(row).not_to_contain_text("offline")


def test_the_page_reconnects_by_itself_and_catches_up(
    bob: User, device: Device, open_page: Open, backend: Backend, web: Web, complaints: list[str]
) -> None:
    backend(stream, device, 1.0, ago=4)
    page = open_live(open_page, bob, device)
    web.stop()
    try:
        expect(page.locator("#freshness")).to_have_text("reconnecting…")
        backend(stream, device, 2.0)
    finally:
        web.start()
    expect(page.locator("#freshness")).to_have_text("live")
    expect(page.locator("[data-metric=cpu_percent]")).to_have_attribute("data-points", "2")
    complaints.clear()


def test_the_page_of_a_device_that_is_gone_says_so_and_stays(
    bob: User, device: Device, open_page: Open, backend: Backend, web: Web, complaints: list[str]
) -> None:
    page = open_live(open_page, bob, device)
    web.stop()
    try:
        backend(device.delete)
    finally:
        web.start()
    expect(page.locator("#freshness")).to_contain_text("This device was deleted")
    complaints.clear()


def test_without_javascript_the_page_has_the_last_values_and_sends_commands(
    alice: User, device: Device, open_page: Open, backend: Backend
) -> None:
    backend(stream, device, 12.5)
    page = open_page(alice, f"/devices/{device.pk}/", java_script_enabled=False)
    expect(page.locator("[data-metric=cpu_percent]")).to_contain_text("12.5 %")
    page.get_by_role("button", name="Send").click()
    expect(page.locator(".history li")).to_contain_text("Queued")
