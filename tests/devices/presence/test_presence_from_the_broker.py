"""Who is there, by the broker's own word: real connections, a real server, a running subscriber."""

import threading
from datetime import timedelta

import pytest
from django.utils import timezone
from pytest_django.fixtures import Settings

from devices.models import BrokerSession, Connectivity, Device, Presence, PresenceChange, Reporter
from devices.presence import reconciliation
from devices.presence.coverage import current_cutoffs
from devices.presence.rules import Status
from natsbridge.models import SubscriberStatus
from tenants.models import Action, AuditEntry, Group
from tests.support.people import Enrolled, enrol
from tests.support.simulated import DeviceProcess
from tests.support.system import System, eventually


@pytest.fixture
def enrolled(system: System, group_a: Group) -> Enrolled:
    return enrol(group_a, "anna-laptop")


def status(device: Device) -> Status:
    return Device.objects.select_related("connectivity").get(pk=device.pk).status(current_cutoffs())


def history(device: Device) -> list[tuple[str, str]]:
    rows = PresenceChange.objects.filter(device=device).order_by("at", "pk")
    return list(rows.values_list("presence", "reported_by"))


def test_a_device_is_seen_as_it_connects_and_as_it_leaves(
    system: System, enrolled: Enrolled, settings: Settings
) -> None:
    settings.PRESENCE_GRACE_SECONDS = 3600
    device = enrolled.device
    agent = system.running_agent(enrolled)
    eventually(lambda: status(device) is Status.ONLINE)
    row = Connectivity.objects.get(device=device)
    assert (row.presence_by, row.last_heartbeat) == (Reporter.CONNECT, None)
    left = timezone.now()
    agent.close()
    eventually(lambda: Connectivity.objects.get(device=device).offline_due_at)
    noticed = timezone.now()
    assert status(device) is Status.ONLINE
    # The grace is over.
    Connectivity.objects.filter(device=device).update(offline_due_at=noticed)
    eventually(lambda: status(device) is Status.OFFLINE)
    row.refresh_from_db()
    assert row.presence_at is not None
    # It went when it went, not when the grace was over; the server tells whole milliseconds.
    assert left - timedelta(milliseconds=1) <= row.presence_at <= noticed
    assert history(device) == [("online", "connect"), ("offline", "disconnect")]
    last = PresenceChange.objects.get(presence=Presence.OFFLINE)
    assert last.reason == "Client Closed"
    told = AuditEntry.objects.filter(device_uuid=device.pk, via="broker").order_by("pk")
    assert list(told.values_list("action", flat=True)) == [
        Action.BROKER_LOGIN,
        Action.BROKER_DISCONNECTED,
    ]
    assert "eyJ" not in str(list(told.values()))


def test_an_agent_that_is_killed_is_gone_after_the_grace(
    system: System, enrolled: Enrolled, settings: Settings
) -> None:
    settings.PRESENCE_GRACE_SECONDS = 1
    first = system.running_agent(enrolled)
    with DeviceProcess(enrolled) as process:
        connected = BrokerSession.objects.filter(device=enrolled.device, ended_at=None)
        eventually(lambda: connected.count() == 2)
        first.close()
        eventually(lambda: connected.count() == 1)
        assert status(enrolled.device) is Status.ONLINE
        process.kill()
        eventually(lambda: status(enrolled.device) is Status.OFFLINE)


def test_what_no_event_told_the_list_of_connections_does(
    system: System, enrolled: Enrolled, group_a: Group, settings: Settings
) -> None:
    """Both ways: one came, and one left, of whom nothing was heard."""
    settings.PRESENCE_SERVER_GRACE_SECONDS = 1
    lost = enrol(group_a, "gone with its server").device
    unnoticed = enrolled.device
    system.running_agent(enrolled)
    eventually(BrokerSession.objects.filter(device=unnoticed).exists)
    system.stop_subscriber()
    BrokerSession.objects.all().delete()
    PresenceChange.objects.all().delete()
    Connectivity.objects.all().update(presence="", presence_at=None, presence_by="")
    Connectivity.objects.filter(device=lost).update(
        presence=Presence.ONLINE, presence_at=timezone.now(), last_seen_online=timezone.now()
    )
    BrokerSession.objects.create(
        server_id="NGONE", client_id=7, device=lost, started_at=timezone.now()
    )
    system.start_subscriber()
    eventually(lambda: history(unnoticed) == [("online", "reconciliation")])
    eventually(lambda: history(lost) == [("offline", "reconciliation")])
    assert BrokerSession.objects.get(device=lost).end_reason == BrokerSession.SERVER_GONE
    assert status(unnoticed) is Status.ONLINE


def test_a_comparison_with_the_brokers_list_that_fails_is_noticed_and_begun_again(
    system: System, enrolled: Enrolled, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else, after the next reconnect, nobody would ever be seen to go."""
    begin, failed = reconciliation.take_turn, threading.Event()

    def fail_once() -> bool:
        if not failed.is_set():
            failed.set()
            raise ZeroDivisionError
        return begin()

    agent = system.running_agent(enrolled)
    eventually(lambda: status(enrolled.device) is Status.ONLINE)
    system.stop_subscriber()
    agent.close()
    monkeypatch.setattr(reconciliation, "take_turn", fail_once)
    system.start_subscriber()
    failures = {"details__counters__has_key": "task_failures.presence sweep"}
    eventually(SubscriberStatus.objects.filter(**failures).exists)
    Connectivity.objects.update(offline_due_at=timezone.now())
    eventually(lambda: status(enrolled.device) is Status.OFFLINE)
