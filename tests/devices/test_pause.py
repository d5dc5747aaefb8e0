"""The service is paused and resumed: nothing is lost meanwhile, and no device counts as offline."""

from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from nats.js import JetStreamContext
from nats.js.api import ConsumerInfo
from rest_framework.test import APIClient

from devices.commands import delivery
from devices.commands.issue import issue
from devices.models import (
    BrokerSession,
    Command,
    CommandState,
    Connectivity,
    Device,
    Presence,
    PresenceChange,
)
from devices.presence import reconciliation
from devices.presence.coverage import current_cutoffs
from devices.presence.rules import Status
from devices.telemetry import ring_buffers
from natsbridge.models import Coverage, DeadLetter, Pause
from natsbridge.subscriber import status
from tenants.models import Group, User
from tests.support.people import authorization, enrol, logged_in
from tests.support.system import System, eventually

# A device keeps a hundred kinds of monitoring data.
REPORTS = 90


class Service:
    """The service as staff start and stop it."""

    def __init__(self, api: APIClient) -> None:
        self._api = api
        self._headers = authorization(User.objects.create_superuser("sam"))

    def order(self, what: str) -> None:
        answer = self._api.post(f"/api/nats/service/{what}", **self._headers)
        assert answer.status_code == 200, answer.json()

    def has_become(self, state: str) -> bool:
        answer = self._api.get("/api/nats/service/status", **self._headers)
        return bool(answer.json().get("actual_state") == state)


@pytest.fixture
def service(system: System, api: APIClient, monkeypatch: pytest.MonkeyPatch) -> Service:
    monkeypatch.setattr(status, "BEAT_SECONDS", 0.2)
    return Service(api)


def consumer(system: System, stream: str, name: str) -> ConsumerInfo:
    found: list[ConsumerInfo] = []

    async def look(js: JetStreamContext) -> None:
        found.append(await js.consumer_info(stream, name))

    system.as_platform_owner(look)
    return found[0]


def status_of(device: Device) -> Status:
    return Device.objects.select_related("connectivity").get(pk=device.pk).status(current_cutoffs())


def test_a_paused_service_stores_nothing_loses_nothing_and_calls_nobody_offline(
    system: System, group_a: Group, alice: User, service: Service
) -> None:
    staying, leaving = enrol(group_a, "staying"), enrol(group_a, "leaving")
    agent, other = system.running_agent(staying), system.agent(leaving)
    for each in (agent, other):
        each.heartbeat(session_id="before")
    heard = Connectivity.objects.exclude(last_heartbeat=None)
    eventually(lambda: heard.count() == 2 and status_of(staying.device) is Status.ONLINE)

    # What was fetched before the pause is finished, and the rest is left at the broker.
    agent.report_all("monitoring", [{"monitoring_type": f"m{n}"} for n in range(REPORTS)])
    service.order("stop")
    eventually(lambda: service.has_become("paused"))
    waiting = consumer(system, "INGEST", "ingest-writer")
    stored = staying.device.realtime_data.count()
    assert (waiting.num_ack_pending, waiting.num_waiting) == (0, 0)
    assert stored + (waiting.num_pending or 0) == REPORTS

    # A restart keeps the pause.
    system.stop_subscriber()
    system.start_subscriber()
    eventually(lambda: service.has_become("paused"))

    # The broker takes what devices send, and nothing of it is stored.
    agent.heartbeat(session_id="during")
    agent.report("monitoring", {"monitoring_type": "during"})
    agent.stream_metric("uptime", {"value": 1})
    command = issue(staying.device, "ping", {}, by=alice)
    assert status_of(staying.device) is Status.UNKNOWN

    # Presence goes on: the one that leaves is known to have left.
    sessions = BrokerSession.objects.filter(ended_at=None)
    other.close()
    eventually(lambda: not sessions.filter(device=leaving.device.pk).exists())
    gone = PresenceChange.objects.filter(presence=Presence.OFFLINE)
    eventually(gone.filter(device=leaving.device).exists)
    assert status_of(leaving.device) is Status.UNKNOWN

    assert consumer(system, "INGEST", "ingest-writer").num_waiting == 0
    assert staying.device.realtime_data.count() == stored
    assert Connectivity.objects.get(device=staying.device).session_id == "before"
    assert ring_buffers.recent(staying.device.pk).get("uptime", []) == []
    command.refresh_from_db()
    assert (command.state, agent.received) == (CommandState.QUEUED, [])

    service.order("start")
    eventually(lambda: staying.device.realtime_data.count() == REPORTS + 1)
    eventually(heard.filter(device=staying.device, session_id="during").exists)
    eventually(lambda: [each["payload"]["command"] for each in agent.received] == ["ping"])
    eventually(lambda: status_of(staying.device) is Status.ONLINE)
    assert set(gone.values_list("device", flat=True)) == {leaving.device.pk}
    eventually(lambda: consumer(system, "INGEST", "ingest-writer").num_ack_pending == 0)
    assert not DeadLetter.objects.exists()


def test_silence_that_is_our_own_doing_makes_nobody_offline(
    device_a: Device, listening: Coverage
) -> None:
    """A device that is online by its heartbeats, through a server that the lists do not name."""
    now = timezone.now()
    connectivity = Connectivity.objects.filter(device=device_a)
    connectivity.update(
        presence=Presence.ONLINE, presence_at=now, last_seen_online=now - timedelta(minutes=5)
    )

    def is_expected_back() -> bool:
        reconciliation._expect_no_more(timezone.now())
        return connectivity.exclude(offline_due_at=None).exists()

    Pause.objects.create(by="sam")
    assert not is_expected_back()
    Pause.objects.all().delete()
    Coverage.objects.update(gap_started=now - timedelta(minutes=5), gap_ended=now)
    assert not is_expected_back()
    Coverage.objects.update(gap_ended=now - timedelta(minutes=4))
    assert is_expected_back()


def test_a_response_that_may_wait_in_its_stream_is_not_missing(
    device_a: Device, alice: User, listening: Coverage, redis_server: object
) -> None:
    commands = [issue(device_a, "ping", {}, by=alice) for _ in range(2)]
    past = timezone.now() - timedelta(hours=1)
    Command.objects.update(deadline=past)
    sent = Command.objects.filter(pk=commands[0].pk)
    sent.move_to(CommandState.SENT, sent_at=past)
    Pause.objects.create(by="sam")
    delivery.sweep()
    states = Command.objects.order_by("id").values_list("state", flat=True)
    assert list(states.all()) == [CommandState.SENT, CommandState.EXPIRED]
    Pause.objects.all().delete()
    delivery.sweep()
    assert list(states.all()) == [CommandState.FAILED, CommandState.EXPIRED]


def test_pages_say_by_whom_the_service_is_paused(
    as_bob: Client, device_a: Device, listening: Coverage, redis_server: object
) -> None:
    said = b"Message processing is paused</strong> by sam"
    pages = [reverse("fleet"), reverse("device", args=[device_a.pk])]
    for page in pages:
        assert said not in as_bob.get(page).content
    Pause.objects.create(by="sam", reason="the move")
    for page in pages:
        shown = as_bob.get(page).content
        assert said in shown
        assert b"the move" in shown
    staff = logged_in(User.objects.create_superuser("stella"))
    for name in ("admin:index", "admin:natsbridge_subscriberstatus_changelist"):
        assert said in staff.get(reverse(name)).content
