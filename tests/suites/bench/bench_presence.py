"""How long until what is shown is right. Run by `make bench`; it judges by the promises made."""

import os
import signal
import time
from collections.abc import Callable

import pytest
from django.utils import timezone

from devices.enrolment import credentials
from devices.models import BrokerSession, Connectivity, Device, PresenceChange
from devices.presence.coverage import current_cutoffs
from devices.presence.rules import Status
from tenants.models import Group
from tests.support.people import Enrolled, enrol
from tests.support.simulated import Cable, Crowd, DeviceProcess
from tests.support.system import System, eventually

CROWD = 500
POWER_LOSS_SECONDS = 60.0
PROMISED_END = 1.0


@pytest.fixture
def enrolled(system: System, group_a: Group) -> Enrolled:
    found = enrol(group_a, "anna-laptop")
    system.running_agent(found).close()
    eventually(lambda: shown(found.device) is Status.OFFLINE)
    return found


@pytest.fixture
def say(request: pytest.FixtureRequest) -> Callable[[str], None]:
    write: Callable[[str], None] = request.config.get_terminal_writer().line
    return lambda text: write(f"\n  {text}")


def shown(device: Device) -> Status:
    return Device.objects.select_related("connectivity").get(pk=device.pk).status(current_cutoffs())


def stop(system: System) -> None:
    system.server.stop()


def kill(system: System) -> None:
    os.killpg(system.server.child.process.pid, signal.SIGKILL)
    system.server.stop()


def seconds_until(device: Device, status: Status, within: float = 120.0) -> float:
    started = time.monotonic()
    eventually(lambda: shown(device) is status, within=within)
    return time.monotonic() - started


def test_connecting_and_kill(
    system: System, enrolled: Enrolled, say: Callable[[str], None]
) -> None:
    device = enrolled.device
    with DeviceProcess(enrolled) as process:
        say(f"shown online after connecting: {seconds_until(device, Status.ONLINE):.2f} s")
        process.kill()
        taken = seconds_until(device, Status.OFFLINE)
    say(f"shown offline after kill -9: {taken:.2f} s, of which 3 s are the grace")
    assert taken < 4.0


def test_a_frozen_agent(system: System, enrolled: Enrolled, say: Callable[[str], None]) -> None:
    with DeviceProcess(enrolled) as process:
        seconds_until(enrolled.device, Status.ONLINE)
        process.freeze()
        taken = seconds_until(enrolled.device, Status.OFFLINE)
    say(f"shown offline after SIGSTOP: {taken:.1f} s")
    assert taken < POWER_LOSS_SECONDS


def test_a_pulled_cable(system: System, enrolled: Enrolled, say: Callable[[str], None]) -> None:
    cable = Cable(system.thread)
    try:
        with DeviceProcess(enrolled, cable.url):
            seconds_until(enrolled.device, Status.ONLINE)
            cable.pull()
            taken = seconds_until(enrolled.device, Status.OFFLINE)
    finally:
        cable.close()
    say(f"shown offline after the cable was pulled: {taken:.1f} s")
    assert taken < POWER_LOSS_SECONDS


def test_a_revoked_device(system: System, enrolled: Enrolled, say: Callable[[str], None]) -> None:
    agent = system.agent(enrolled)
    started = time.monotonic()
    credentials.revoke_device(enrolled.device, by=None, reason="stolen")
    eventually(lambda: agent.client.is_closed)
    taken = time.monotonic() - started
    say(f"closed after it was revoked: {taken:.2f} s")
    assert taken < PROMISED_END


def test_a_restart_of_the_server_with_many_devices(
    system: System, group_a: Group, enrolled: Enrolled, say: Callable[[str], None]
) -> None:
    devices = [enrol(group_a, f"device {number}") for number in range(CROWD)]
    crowd = Crowd(system.thread, devices)
    pks = [each.device.pk for each in devices]
    everybody = Connectivity.objects.filter(device__in=pks)
    eventually(lambda: everybody.filter(presence="online").count() == CROWD, within=60)

    def until(what: Callable[[], bool]) -> float:
        """Seconds since the server's start; nobody is shown offline meanwhile."""

        def come_true() -> bool:
            crowd_of_devices = Device.objects.filter(pk__in=pks)
            assert not crowd_of_devices.with_status(Status.OFFLINE, current_cutoffs()).exists()
            return what()

        eventually(come_true, within=90)
        return time.monotonic() - started

    try:
        for end, away, words in ((stop, 0.0, "stopped"), (kill, 20.0, "killed, away for 20 s")):
            since = timezone.now()
            end(system)
            started = time.monotonic()
            until(lambda away=away, begun=started: time.monotonic() - begun >= away)
            system.start_server()
            started = time.monotonic()
            before = BrokerSession.objects.filter(ended_at=None, started_at__lt=since)
            after = BrokerSession.objects.filter(ended_at=None, started_at__gt=since)
            back = until(lambda: crowd.connected == CROWD)
            known = until(lambda after=after: after.count() == CROWD)
            compared = until(lambda before=before: not before.exists())
            settled = until(lambda: not everybody.exclude(offline_due_at=None).exists())
            say(
                f"server {words}: {CROWD} devices connected {back:.1f} s after its start, "
                f"known {known:.1f} s, compared with its list {compared:.1f} s, "
                f"nothing pending {settled:.1f} s"
            )
            assert not PresenceChange.objects.filter(
                presence="offline", at__gt=since, device__in=pks
            ).exists()
    finally:
        crowd.close()
