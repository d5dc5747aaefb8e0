"""Live metrics and frames: from the broker into the ring buffers and an open page."""

import json
import signal
import time
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from channels.testing import WebsocketCommunicator
from django.contrib.sessions.models import Session
from django.db import OperationalError, connection
from django.test import Client
from django.utils import timezone

from devices.commands import issue as commands
from devices.live import consumers, frames, open_pages, watchers
from devices.models import Connectivity, Device
from devices.presence import heard
from devices.telemetry import reports, ring_buffers
from natsbridge.models import DeadLetter
from tenants.models import Action, AuditEntry, Group, Membership, User
from tests.support.people import Enrolled, enrol
from tests.support.system import Agent, System, eventually
from tests.support.waiting import SAFETY_NET
from wegweiser.asgi import application
from wegweiser.quickstart.servers import Redis


@pytest.fixture
def enrolled(system: System, group_a: Group) -> Enrolled:
    return enrol(group_a, "anna-laptop")


@pytest.fixture
def agent(system: System, enrolled: Enrolled) -> Agent:
    return system.running_agent(enrolled)


def now_ms() -> int:
    return round(time.time() * 1000)


def values(device: Device, metric: str) -> list[float]:
    return [point["value"] for point in ring_buffers.recent(device.pk).get(metric, [])]


def test_points_reach_the_ring_buffer_oldest_first(agent: Agent, enrolled: Enrolled) -> None:
    start = now_ms()
    for offset in (2, 0, 1):
        body = {"value": offset, "timestamp_ms": start + offset, "metric_type": "cpu_percent"}
        agent.stream_metric("cpu_percent", body)
    eventually(lambda: values(enrolled.device, "cpu_percent") == [0, 1, 2])


def test_a_ring_buffer_is_bounded(agent: Agent, enrolled: Enrolled) -> None:
    for number in range(400):
        agent.stream_metric("uptime", {"value": number, "timestamp_ms": now_ms() + number})
    eventually(lambda: values(enrolled.device, "uptime")[-1:] == [399])
    assert len(values(enrolled.device, "uptime")) == 300


def test_a_device_cannot_invent_metrics_without_end(agent: Agent, enrolled: Enrolled) -> None:
    for number in range(80):
        agent.stream_metric(f"invented_{number}", {"value": number})
    eventually(lambda: DeadLetter.objects.filter(reason="too_many_metrics").count() == 16)
    names = [f"invented_{number}" for number in range(80)]
    assert len(ring_buffers.recent(enrolled.device.pk, names)) == 64


def test_seconds_and_milliseconds_mean_the_same_moment(agent: Agent, enrolled: Enrolled) -> None:
    agent.stream_metric("uptime", {"value": 1, "timestamp": 1_700_000_000})
    agent.stream_metric("disk_percent", {"value": 1, "timestamp": 1_700_000_000_000})
    eventually(lambda: len(ring_buffers.recent(enrolled.device.pk)) == 2)
    points = ring_buffers.recent(enrolled.device.pk)
    assert points["uptime"] == points["disk_percent"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"value": NaN}', "malformed_json"),
        ({"value": "12"}, "wrong_type"),
        ({"value": True}, "wrong_type"),
        ({}, "wrong_type"),
        (b'{"value": 1e999}', "wrong_type"),
        ({"value": 1, "device_uuid": "someone else"}, "foreign_identity"),
    ],
)
def test_a_bad_point_becomes_a_dead_letter_and_its_neighbours_are_stored(
    agent: Agent, enrolled: Enrolled, body: object, reason: str
) -> None:
    agent.stream_metric("cpu_percent", body)
    agent.stream_metric("cpu_percent", {"value": 7})
    eventually(lambda: values(enrolled.device, "cpu_percent") == [7])
    eventually(lambda: DeadLetter.objects.filter(reason=reason).count() == 1)


def test_a_device_whose_live_metrics_come_was_heard_though_it_sends_no_heartbeat(
    agent: Agent, enrolled: Enrolled, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The broker's list of connections says so too, now and then.
    by_metrics: dict[UUID, datetime] = {}

    def record_seen(devices: Mapping[UUID, datetime]) -> None:
        reports.record_seen(devices)
        by_metrics.update(devices)

    monkeypatch.setattr(heard, "record_seen", record_seen)
    long_ago = timezone.now() - timedelta(minutes=9)
    known = Connectivity.objects.filter(device=enrolled.device)
    eventually(known.exclude(last_seen_online=None).exists)
    known.update(last_seen_online=long_ago, last_heartbeat=long_ago, connection_type="node-red")
    agent.stream_metric("cpu_percent", {"value": 7})
    eventually(lambda: enrolled.device.pk in by_metrics)
    assert known.get().last_seen_online >= by_metrics[enrolled.device.pk]
    row = known.get()
    assert (row.last_heartbeat, row.connection_type) == (long_ago, "nats")


def test_that_it_was_heard_is_not_written_with_each_point(
    device_a: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[datetime] = []
    monkeypatch.setattr(heard, "record_seen", lambda seen: written.extend(seen.values()))
    moments = [timezone.now() for _ in range(100)]
    seldom, always = heard.Heard(every=3600), heard.Heard(every=0)
    for at in moments:
        for each in (seldom, always):
            each.note({device_a.pk: at})
            each.write()
    assert written.count(moments[0]) == 2
    assert len(written) == 1 + len(moments)


def test_a_deleted_device_whose_last_live_metrics_come_holds_up_nobody(
    device_a: Device, device_b: Device
) -> None:
    """It is remembered for a while whose it was."""
    gone, now = device_a.pk, timezone.now()
    device_a.delete()
    signs = heard.Heard()
    signs.note({gone: now, device_b.pk: now})
    signs.write()
    connection.check_constraints()
    assert Connectivity.objects.get(last_seen_online=now).device == device_b


def test_who_was_heard_while_postgres_was_away_is_written_with_the_next_points(
    device_a: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(seen: object) -> None:
        raise OperationalError("server closed the connection unexpectedly")

    signs, now = heard.Heard(), timezone.now()
    with monkeypatch.context() as without_postgres:
        without_postgres.setattr(heard, "record_seen", away)
        signs.note({device_a.pk: now})
        with pytest.raises(OperationalError):
            signs.write()
    signs.note({device_a.pk: now})
    signs.write()
    assert Connectivity.objects.get(device=device_a).last_seen_online == now


def refused() -> list[tuple[str, UUID | None, dict[str, object]]]:
    """What the platform's audit has of it: the caller, the device, and the request."""
    rows = AuditEntry.objects.filter(action=Action.ACCESS_REFUSED, tenant_uuid=None)
    return list(rows.values_list("actor", "device_uuid", "detail"))


class Page:
    """An open page's websocket, driven on the test's loop; without a device it is the fleet's."""

    def __init__(self, system: System, device: Device | None, user: User | None) -> None:
        headers = [(b"origin", b"http://127.0.0.1"), (b"host", b"127.0.0.1")]
        if user is not None:
            browser = Client()
            browser.force_login(user)
            headers.append((b"cookie", f"sessionid={browser.cookies['sessionid'].value}".encode()))
        self._run = system.thread.run
        self._socket = WebsocketCommunicator(
            application,
            f"/ws/devices/{device.pk}/" if device else "/ws/fleet/",
            headers=headers,
        )
        self.connected, _ = self._run(self._socket.connect(timeout=SAFETY_NET))

    def frame(self, kind: str) -> dict[str, object]:
        """The next frame of this kind."""
        while True:
            frame = json.loads(self._run(self._socket.receive_from(timeout=SAFETY_NET)))
            if frame["type"] == kind:
                return frame  # type: ignore[no-any-return]

    @property
    def is_quiet(self) -> bool:
        return self.is_quiet_for(0.1)

    def is_quiet_for(self, seconds: float) -> bool:
        return bool(self._run(self._socket.receive_nothing(seconds)))

    def send(self, text: str) -> None:
        self._run(self._socket.send_to(text))

    def close_code(self) -> int:
        while (message := self._run(self._socket.receive_output(timeout=SAFETY_NET)))["type"] != (
            "websocket.close"
        ):
            pass
        self.close()
        return int(message["code"])

    def close(self) -> None:
        self._run(self._socket.disconnect())


@pytest.fixture
def page(system: System, enrolled: Enrolled, alice: User) -> Iterator[Page]:
    opened = Page(system, enrolled.device, alice)
    yield opened
    opened.close()


def test_a_page_gets_a_snapshot_and_then_frames_whose_numbers_grow_by_one(
    agent: Agent, page: Page
) -> None:
    snapshot = page.frame("snapshot")
    agent.stream_metric("cpu_percent", {"value": 1, "timestamp_ms": 1_700_000_000_000})
    first = page.frame("metrics")
    agent.stream_metric("cpu_percent", {"value": 2})
    second = page.frame("metrics")
    assert first["metrics"] == {"cpu_percent": [{"timestamp": 1_700_000_000_000, "value": 1.0}]}
    assert [first["seq"], second["seq"]] == [snapshot["seq"] + 1, snapshot["seq"] + 2]  # type: ignore[operator]


def test_a_page_that_missed_a_frame_asks_for_a_snapshot(agent: Agent, page: Page) -> None:
    page.frame("snapshot")
    agent.stream_metric("cpu_percent", {"value": 1})
    page.frame("metrics")
    page.send('{"type": "snapshot"}')
    assert page.frame("snapshot")["seq"] == 1


def test_what_is_not_json_does_no_harm(page: Page) -> None:
    page.frame("snapshot")
    page.send("{nonsense")
    page.send("[]")
    page.send('{"type": "snapshot"}')
    assert page.frame("snapshot")["type"] == "snapshot"


def test_heartbeats_and_commands_show_as_they_come(
    agent: Agent, page: Page, enrolled: Enrolled, alice: User
) -> None:
    page.frame("snapshot")
    agent.heartbeat()
    assert page.frame("connectivity") == {"type": "connectivity"}
    row = commands.issue(enrolled.device, "ping", {"huge": 2**100}, by=alice)
    news: list[object] = []
    for state in ("queued", "sent", "delivered", "succeeded"):
        if state == "delivered":
            agent.answer(row.uuid, "received")
        if state == "succeeded":
            agent.answer(row.uuid, result="x" * 200_000)
        news += page.frame("commands")["commands"]  # type: ignore[misc]
        assert news[-1] == {"command_id": str(row.uuid), "state": state}
    assert frames.snapshot(enrolled.device.pk)["commands"] == [news[-1]]


def test_points_that_no_page_draws_are_stored_and_not_pushed(
    agent: Agent, page: Page, enrolled: Enrolled
) -> None:
    page.frame("snapshot")
    agent.stream_metric("temperature", {"value": 40})
    eventually(lambda: ring_buffers.recent(enrolled.device.pk, ["temperature"]))
    agent.stream_metric("cpu_percent", {"value": 1})
    frame = page.frame("metrics")
    assert (frame["seq"], list(frame["metrics"])) == (1, ["cpu_percent"])  # type: ignore[call-overload]


def test_a_page_to_which_nothing_happens_hears_that_its_connection_lives(
    system: System, enrolled: Enrolled, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "RENEW_SECONDS", 0.1)
    for device in (enrolled.device, None):
        quiet = Page(system, device, alice)
        assert quiet.frame("alive") == {"type": "alive"}
        quiet.close()


def test_only_a_watched_device_costs_a_push(agent: Agent, enrolled: Enrolled) -> None:
    agent.stream_metric("cpu_percent", {"value": 1})
    eventually(lambda: values(enrolled.device, "cpu_percent") == [1])
    assert watchers.watched_devices() == set()
    assert frames.snapshot(enrolled.device.pk)["seq"] == 0


def test_charlie_of_another_tenant_is_told_that_there_is_no_such_device(
    system: System, enrolled: Enrolled, charlie: User
) -> None:
    outsider = Page(system, enrolled.device, charlie)
    assert outsider.close_code() == 4404
    request = "websocket /ws/devices/<uuid:uuid>/"
    assert refused() == [("charlie", enrolled.device.pk, {"request": request, "status": 404})]


def test_a_superuser_who_is_not_a_member_hears_a_device_and_the_fleet(
    system: System, enrolled: Enrolled
) -> None:
    root = User.objects.create_superuser("root")
    for device in (enrolled.device, None):
        socket = Page(system, device, root)
        assert socket.frame("snapshot")
        socket.close()


def test_somebody_who_is_not_logged_in_is_told_to(system: System, enrolled: Enrolled) -> None:
    anonymous = Page(system, enrolled.device, None)
    assert anonymous.close_code() == 4401
    request = "websocket /ws/devices/<uuid:uuid>/"
    assert refused() == [("", None, {"request": request, "status": 401})]


@pytest.mark.parametrize(
    ("loss", "code"), [("deactivated", 4401), ("removed", 4404), ("logged out", 4401)]
)
def test_a_page_ends_when_its_person_may_no_longer_see_the_device(
    system: System,
    enrolled: Enrolled,
    alice: User,
    monkeypatch: pytest.MonkeyPatch,
    loss: str,
    code: int,
) -> None:
    monkeypatch.setattr(open_pages, "CHECK_SECONDS", 0.2)
    page = Page(system, enrolled.device, alice)
    page.frame("snapshot")
    match loss:
        case "deactivated":
            User.objects.filter(pk=alice.pk).update(is_active=False)
        case "removed":
            Membership.objects.filter(user=alice).delete()
        case "logged out":
            Session.objects.all().delete()
    assert page.close_code() == code


def test_a_page_whose_redis_goes_away_is_told_to_try_again(
    system: System, enrolled: Enrolled, alice: User, redis_server: Redis
) -> None:
    page = Page(system, enrolled.device, alice)
    page.frame("snapshot")
    redis_server.stop()
    try:
        page.send('{"type": "snapshot"}')
        assert page.close_code() == 4503
    finally:
        redis_server.start()


def test_redis_that_hangs_costs_one_batch_its_patience_and_not_each(
    system: System, redis_server: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert redis_server.child is not None
    redis_server.child.process.send_signal(signal.SIGSTOP)
    try:
        monkeypatch.setattr(watchers.pause, "seconds", 10 * SAFETY_NET)
        assert watchers.watched_devices() == set()
        # Nothing asks Redis again.
        monkeypatch.setattr(watchers, "store", None)
        assert [watchers.watched_devices() for _ in range(50)] == [set()] * 50
    finally:
        redis_server.child.process.send_signal(signal.SIGCONT)


def test_a_page_of_a_foreign_origin_is_refused(system: System, enrolled: Enrolled) -> None:
    headers = [(b"origin", b"http://evil.example"), (b"host", b"127.0.0.1")]
    socket = WebsocketCommunicator(
        application, f"/ws/devices/{enrolled.device.pk}/", headers=headers
    )
    connected, _ = system.thread.run(socket.connect(timeout=SAFETY_NET))
    assert not connected
    assert refused() == [("", None, {"request": "websocket /", "status": 403})]


def test_redis_away_keeps_the_points_until_it_is_back(
    system: System, agent: Agent, enrolled: Enrolled, redis_server: Redis
) -> None:
    redis_server.stop()
    agent.stream_metric("cpu_percent", {"value": 5})
    time.sleep(0.5)
    redis_server.start()
    eventually(lambda: values(enrolled.device, "cpu_percent") == [5])


def test_the_fleet_hears_of_its_own_tenants_devices_alone(
    system: System, enrolled: Enrolled, alice: User, charlie: User
) -> None:
    own, other, nobodys = (Page(system, None, user) for user in (alice, charlie, None))
    assert nobodys.close_code() == consumers.LOGIN_NEEDED
    for page in (own, other):
        page.frame("snapshot")

    def heard() -> bool:
        # More than once, since Redis may have been restarted under the layer's old connections.
        frames.push_presence([enrolled.device.pk])
        return not own.is_quiet

    eventually(heard)
    assert own.frame("fleet") == {"type": "fleet"}
    assert other.is_quiet
    for page in (own, other):
        page.close()


def test_a_page_that_asks_in_a_loop_gets_a_snapshot_now_and_then(
    system: System, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumers, "SNAPSHOT_SECONDS", 0.5)
    page.frame("snapshot")
    begun = time.monotonic()
    for _ in range(50):
        page.send('{"type": "snapshot"}')
    snapshots = 0
    while snapshots < 2 or not page.is_quiet_for(1.0):
        page.frame("snapshot")
        snapshots += 1
    # However long it took, it was one at once and one for each half second.
    assert snapshots <= 1 + (time.monotonic() - begun) / 0.5
