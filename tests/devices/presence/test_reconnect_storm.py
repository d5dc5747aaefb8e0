"""A device that opens many connections, one after the other or at once: a real server, and a
subscriber that keeps count."""

import asyncio
import threading
from datetime import timedelta

import pytest
from django.db.models import Sum
from django.utils import timezone
from nats.aio.client import Client
from nats.errors import OutboundBufferLimitError
from pytest_django.fixtures import Settings

from devices.models import BrokerSession, Connectivity, Presence, PresenceChange
from devices.presence import connection_limit
from devices.presence.events import connection_events
from devices.presence.sessions import ENDED_KEPT
from natsbridge.client import system_account
from tenants.credentials.issue import issue_device_password
from tenants.models import Action, AuditEntry, BrokerAccount, Group
from tests.suites.attacks.wire import Credentials, HungUp, Wire
from tests.support.people import Enrolled, enrol
from tests.support.system import System, eventually

RECONNECTS = 300


@pytest.fixture
def enrolled(system: System, group_a: Group) -> Enrolled:
    device = enrol(group_a, "anna-laptop")
    system.start_subscriber()
    accounts = BrokerAccount.objects.filter(tenant=device.device.tenant_id)
    eventually(accounts.exclude(provisioned_at=None).exists)
    return device


async def logged_in(port: int, credentials: Credentials, **options: str) -> Wire:
    wire = await Wire.open(port)
    await wire.settle(wire.login(credentials, **options))
    return wire


async def storm(port: int, credentials: Credentials) -> None:
    for _ in range(RECONNECTS):
        wire = await logged_in(port, credentials)
        await wire.close()


async def lives(wire: Wire) -> bool:
    try:
        await wire.settle()
    except HungUp:
        return False
    return True


def alive(enrolled: Enrolled) -> set[int]:
    """The connections of the device that the platform thinks it has."""
    live = BrokerSession.objects.filter(device=enrolled.device, ended_at=None)
    return set(live.values_list("client_id", flat=True))


def test_a_thousand_reconnects_write_few_rows_and_presence_stays_exact(
    system: System, enrolled: Enrolled, settings: Settings
) -> None:
    settings.PRESENCE_GRACE_SECONDS = settings.PRESENCE_UNSTABLE_GRACE_SECONDS = 1
    jwt = enrolled.jwt, enrolled.key.seed
    # As one that goes on and off within its grace would: it is there when the storm begins.
    first = system.thread.run(logged_in(system.port, jwt))
    began = timezone.now()
    system.thread.run(storm(system.port, jwt), timeout=120)
    last = system.thread.run(logged_in(system.port, jwt))
    system.thread.run(first.close())
    eventually(lambda: alive(enrolled) == {last.number}, within=60)
    connection_events.flush(at_once=True)
    of_device = AuditEntry.objects.filter(device_uuid=enrolled.device.pk, via="broker")
    for action, expected in (
        (Action.BROKER_LOGIN, RECONNECTS + 2),
        (Action.BROKER_DISCONNECTED, RECONNECTS + 1),
    ):
        rows = of_device.filter(action=action)
        # The first at once, and one for each minute that it took.
        minutes = (timezone.now() - began) // timedelta(minutes=1)
        assert 1 <= rows.count() <= 3 + minutes
        assert (rows.aggregate(sum=Sum("count"))["sum"] or 0) >= expected
    newest = of_device.filter(action=Action.BROKER_DISCONNECTED).order_by("pk").last()
    assert newest is not None
    assert newest.detail["reason"] == "Client Closed"
    assert BrokerSession.objects.filter(device=enrolled.device).count() <= ENDED_KEPT + 2
    history = PresenceChange.objects.filter(device=enrolled.device).order_by("pk")
    assert list(history.values_list("presence", flat=True)) == [Presence.ONLINE]
    system.thread.run(last.close())
    row = Connectivity.objects.filter(device=enrolled.device)
    eventually(row.filter(presence=Presence.OFFLINE).exists, within=30)
    assert list(history.values_list("presence", flat=True)) == [Presence.ONLINE, Presence.OFFLINE]


def test_a_devices_fourth_connection_ends_its_oldest_and_a_tenant_credentials_does_not(
    system: System, enrolled: Enrolled
) -> None:
    agent = system.agent(enrolled)
    eventually(lambda: len(alive(enrolled)) == 1)
    tenants = [system.tenant_agent(agent) for _ in range(5)]
    jwt = enrolled.jwt, enrolled.key.seed
    # One that renews its credential has two for a while.
    others = [system.thread.run(logged_in(system.port, jwt)) for _ in range(2)]
    eventually(lambda: len(alive(enrolled)) == 3)
    assert not agent.client.is_closed
    others.append(system.thread.run(logged_in(system.port, jwt)))
    eventually(lambda: agent.client.is_closed, within=30)
    eventually(lambda: alive(enrolled) == {wire.number for wire in others}, within=30)
    assert all(system.thread.run(lives(wire)) for wire in others)
    assert not any(each.client.is_closed for each in tenants)
    told = eventually(AuditEntry.objects.filter(action=Action.BROKER_LIMITED).first)
    assert told.device_uuid == enrolled.device.pk
    assert told.detail["reason"] == "the device had more than 3 connections"
    history = PresenceChange.objects.filter(device=enrolled.device)
    assert list(history.values_list("presence", flat=True)) == [Presence.ONLINE]
    for wire in others:
        system.thread.run(wire.close())


def test_a_password_opens_no_more_connections_of_a_device_than_a_jwt(
    system: System, enrolled: Enrolled
) -> None:
    device = enrolled.device
    password = issue_device_password(device.tenant_id, device.pk).secret
    login = {"user": f"device_{device.pk}", "pass": password}
    wires = []
    for number in range(1, 5):
        wires.append(system.thread.run(logged_in(system.port, None, **login), timeout=30))
        expected = {wire.number for wire in wires[-3:]}
        eventually(lambda: alive(enrolled) == expected, within=30)  # noqa: B023
        assert number == len(wires)
    living = [system.thread.run(lives(wire)) for wire in wires]
    assert living == [False, True, True, True]
    for wire in wires:
        system.thread.run(wire.close())


def test_what_was_ended_is_on_record_although_another_could_not_be_ended(
    system: System, enrolled: Enrolled, monkeypatch: pytest.MonkeyPatch
) -> None:
    surplus, kick = connection_limit.surplus, system_account.kick
    all_open, failed = threading.Event(), threading.Event()

    async def fail_once(system: Client, server: str, client: int) -> None:
        if not failed.is_set():
            failed.set()
            raise OutboundBufferLimitError
        await kick(system, server, client)

    monkeypatch.setattr(connection_limit, "surplus", lambda: all_open.is_set() and surplus())
    monkeypatch.setattr(system_account, "kick", fail_once)
    jwt = enrolled.jwt, enrolled.key.seed
    wires = [system.thread.run(logged_in(system.port, jwt)) for _ in range(5)]
    eventually(lambda: len(alive(enrolled)) == 5)
    all_open.set()
    eventually(lambda: alive(enrolled) == {wire.number for wire in wires[2:]})

    def on_record() -> int:
        connection_limit.limited_devices.flush(at_once=True)
        limited = AuditEntry.objects.filter(action=Action.BROKER_LIMITED)
        return sum(limited.values_list("count", flat=True))

    eventually(lambda: on_record() == 2)
    assert failed.is_set()
    for wire in wires:
        system.thread.run(wire.close())


def test_many_at_once_are_cut_down_to_the_limit(system: System, enrolled: Enrolled) -> None:
    jwt = enrolled.jwt, enrolled.key.seed

    async def open_all() -> list[Wire]:
        return list(await asyncio.gather(*(logged_in(system.port, jwt) for _ in range(40))))

    wires = system.thread.run(open_all(), timeout=60)
    eventually(lambda: len(alive(enrolled)) == 3, within=60)
    living = {wire.number for wire in wires if system.thread.run(lives(wire))}
    assert living == alive(enrolled)
    assert AuditEntry.objects.filter(action=Action.BROKER_LIMITED).count() <= 3
    for wire in wires:
        system.thread.run(wire.close())
