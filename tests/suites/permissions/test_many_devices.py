"""With 10,000 devices every GET costs as many queries as with 100."""

import time
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from devices.models import BrokerSession, Command, Device, PresenceChange, RealtimeData
from natsbridge.subscriber import status as status_row
from tenants.models import Group
from tests.suites.permissions.endpoints import endpoints
from tests.suites.permissions.table import MATRIX
from tests.suites.permissions.world import World, build
from tests.support.many import many_devices

FEW, MANY = 100, 10_000
# Each GET is for one of them.
ASKED = ("admin", "staff", "device")
Cost = tuple[int, float]


@pytest.fixture
def world(group_a: Group, group_b: Group, redis_server: object) -> World:
    return build(group_a, group_b)


def fill(group: Group, count: int) -> None:
    """Add devices, each with a command, a report, a change of presence and a connection."""
    devices: list[Device] = many_devices(group, count)
    now = timezone.now()
    Command.objects.bulk_create(
        Command(device=each, command="ping", deadline=now + timedelta(hours=1)) for each in devices
    )
    RealtimeData.objects.bulk_create(
        RealtimeData(device=each, kind="status", data={}, received_at=now) for each in devices
    )
    PresenceChange.objects.bulk_create(
        PresenceChange(device=each, presence="online", at=now, reported_by="connect")
        for each in devices
    )
    BrokerSession.objects.bulk_create(
        BrokerSession(server_id="S", client_id=number, device=each, started_at=now)
        for number, each in enumerate(devices, BrokerSession.objects.count())
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def costs(world: World) -> dict[str, Cost]:
    """Return the queries and the milliseconds of each GET, for the first who gets an answer."""
    found = {}
    for endpoint in (each for each in endpoints() if each.startswith("GET /api/")):
        caller = next(who for who in ASKED if MATRIX[endpoint][who] == 200)
        path = endpoint.format(**world.ids_in(endpoint)).removeprefix("GET ")
        with transaction.atomic():
            status_row.beat("test", started_at=timezone.now(), connected=True, details={})
            client, headers = Client(), world.callers[caller]
            client.get(path, **headers)
            with CaptureQueriesContext(
                connection,
            ) as queries:
                started = time.perf_counter()
                answer = client.get(path, **headers)
                spent = 1000 * (time.perf_counter() - started)
            transaction.set_rollback(True)
        assert answer.status_code == 200, endpoint
        found[endpoint] = len(queries), spent
    return found


# Ten thousand devices with what belongs to them are a minute's work for Postgres.
@pytest.mark.long
def test_each_get_costs_as_many_queries_with_many_devices_as_with_few(
    world: World, group_a: Group, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(group_a, FEW)
    few = costs(world)
    fill(group_a, MANY - FEW)
    many = costs(world)
    with capsys.disabled():
        print(f"\nqueries, ms with {FEW:,}, ms with {MANY:,} devices")
        for endpoint, (count, spent) in many.items():
            print(f"{count:3} {few[endpoint][1]:8.1f} {spent:8.1f}  {endpoint}")
    grown = {each: (few[each][0], many[each][0]) for each in many if few[each][0] != many[each][0]}
    assert grown == {}
