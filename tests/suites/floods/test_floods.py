"""A device floods, on real servers: it is ended and that is told, and its neighbours notice little.

How fast that goes is for `tests/suites/bench/bench_floods.py`; here counts what becomes of whom.
"""

import uuid
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone
from pytest_django.fixtures import Settings

from devices.models import Command, CommandState, Connectivity
from natsbridge.models import DeadLetter, SubscriberStatus
from tenants.credentials.issue import issue_tenant_credential
from tenants.models import (
    Action,
    AuditEntry,
    BrokerAccount,
    Credential,
    FloodBlock,
    Group,
    Tenant,
    User,
)
from tests.suites.floods.kinds import BY_NAME, Flood, Target, flooding
from tests.suites.floods.neighbours import Neighbour
from tests.support.people import Enrolled, enrol
from tests.support.system import System, eventually, parse_credentials

# Where nothing else ends a flood.
MOST_SECONDS = 60.0


@pytest.fixture
def attacker(system: System, group_a: Group, group_b: Group) -> Enrolled:
    found = enrol(group_a, "attacker")
    system.start_subscriber()
    eventually(lambda: not BrokerAccount.objects.filter(provisioned_at=None).exists(), within=60)
    return found


@pytest.fixture
def neighbour(system: System, attacker: Enrolled, group_b: Group) -> Iterator[Neighbour]:
    found = Neighbour(system, enrol(group_b, "neighbour"))
    yield found
    found.stop()


def target(attacker: Enrolled) -> Target:
    device = attacker.device
    rows = [
        Command.objects.create(
            device=device, command="ping", parameters={}, deadline=device.created_at
        )
        for _ in range(5)
    ]
    return Target(device.tenant_id, device.pk, [row.uuid for row in rows], [uuid.uuid4()])


def login_of(attacker: Enrolled) -> dict[str, str]:
    return {"jwt": attacker.jwt, "seed": attacker.key.seed}


def login_of_tenant(tenant: Tenant, kind: Credential.Kind) -> dict[str, str]:
    issued = issue_tenant_credential(tenant, kind=kind, by=None)
    if kind == Credential.Kind.PASSWORD:
        return {"user": f"tenant_{tenant.pk}", "password": issued.secret}
    jwt, seed = parse_credentials(issued.secret)
    return {"jwt": jwt, "seed": seed}


def recorded(**of: object) -> AuditEntry:
    rows = AuditEntry.objects.filter(action=Action.BROKER_FLOODED, **of)
    return eventually(lambda: rows.order_by("id").first(), within=MOST_SECONDS)


@pytest.mark.parametrize(
    "flood",
    [
        BY_NAME["heartbeat"],
        BY_NAME["responses to an unknown command"],
        *(
            pytest.param(BY_NAME[name], marks=pytest.mark.long)
            for name in ("metrics", "heartbeats over 3 connections", "monitoring")
        ),
    ],
    ids=lambda flood: flood.name.replace(" ", "-"),
)
def test_a_device_that_floods_is_disconnected_and_its_neighbours_are_served(
    system: System, attacker: Enrolled, neighbour: Neighbour, charlie: User, flood: Flood
) -> None:
    device = attacker.device
    with flooding(
        flood, target(attacker), system.port, login_of(attacker), seconds=MOST_SECONDS
    ) as under_way:
        while not FloodBlock.objects.in_force().exists():
            neighbour.command(charlie, within=MOST_SECONDS)
        assert not under_way.is_over, "it would have gone on"
        eventually(lambda: AuditEntry.objects.filter(action=Action.BROKER_REFUSED).exists())
        report = under_way.stop()
    assert report.ended_after is not None
    assert {"Authorization Violation", "User Authentication Revoked"} & set(report.words)
    row = recorded(device_uuid=device.pk)
    assert row.tenant_uuid == device.tenant_id
    assert row.detail["messages_per_second"] > row.detail["messages_allowed"]
    assert not AuditEntry.objects.filter(
        action=Action.BROKER_FLOODED, device_uuid=neighbour.device.pk
    ).exists()
    neighbour.stop()
    beats = neighbour.heartbeats
    assert beats.acknowledged
    assert not beats.refused
    eventually(
        lambda: (
            Connectivity.objects.get(device=neighbour.device).last_heartbeat.timestamp()  # type: ignore[union-attr]
            >= beats.newest - 1
        )
    )


def test_a_device_that_was_shut_out_is_admitted_again(
    system: System, attacker: Enrolled, settings: Settings
) -> None:
    settings.FLOOD_BLOCK_SECONDS = 2
    flood = BY_NAME["status"]
    with flooding(flood, target(attacker), system.port, login_of(attacker), seconds=MOST_SECONDS):
        eventually(FloodBlock.objects.filter(until__isnull=False).exists, within=MOST_SECONDS)
    eventually(FloodBlock.objects.filter(lifted_at__isnull=False).exists, within=MOST_SECONDS)
    eventually(lambda: system.lets_in(attacker), within=MOST_SECONDS)


@pytest.mark.long
@pytest.mark.parametrize("kind", Credential.Kind, ids=str)
def test_a_tenant_credential_that_floods_is_disconnected_and_the_tenants_devices_are_not(
    system: System, attacker: Enrolled, neighbour: Neighbour, kind: Credential.Kind
) -> None:
    sibling = system.agent(attacker)
    tenant = attacker.device.tenant
    flood = BY_NAME["tenant: responses of made-up devices"]
    with flooding(
        flood, target(attacker), system.port, login_of_tenant(tenant, kind), seconds=MOST_SECONDS
    ):
        eventually(FloodBlock.objects.in_force().exists, within=MOST_SECONDS)
    assert recorded(tenant_uuid=tenant.pk).actor == f"tenant_{tenant.pk}"
    sibling.heartbeat()
    neighbour.stop()
    assert not neighbour.heartbeats.refused


def test_the_subscribers_status_names_who_was_disconnected(
    system: System, attacker: Enrolled
) -> None:
    flood = BY_NAME["status"]
    with flooding(
        flood, target(attacker), system.port, login_of(attacker), seconds=MOST_SECONDS, again=False
    ) as under_way:
        recorded(device_uuid=attacker.device.pk)
        report = under_way.stop()
    assert len(report.lives) == 1
    name = f"device_{attacker.device.pk}"

    def named() -> bool:
        floods = SubscriberStatus.objects.get().details.get("floods", [])
        return any(each["sender"] == name for each in floods)

    eventually(named, within=30)
    assert not FloodBlock.objects.in_force().exists(), "the first time it may come back"
    assert system.lets_in(attacker)


def test_a_neighbours_answer_does_not_wait_behind_what_a_flood_has_left(
    system: System, attacker: Enrolled, group_b: Group, charlie: User
) -> None:
    """It came after them all, and is in the database before most of them."""
    other = enrol(group_b, "neighbour")
    command = Command.objects.create(
        device=other.device,
        command="ping",
        parameters={},
        created_by=charlie,
        state=CommandState.SENT,
        sent_at=timezone.now(),
        deadline=timezone.now() + timedelta(hours=1),
    )
    flooder, neighbour = system.agent(attacker), system.agent(other)
    system.stop_subscriber()
    result = {"status": "success", "result": "nobody asked"}
    bodies = [{"command_id": str(uuid.uuid4()), "result": result} for _ in range(1_500)]
    flooder.report_all("response", bodies)
    neighbour.answer(command.uuid)
    system.start_subscriber()
    eventually(Command.objects.filter(pk=command.pk, finished_at__isnull=False).exists, within=60)
    eventually(lambda: DeadLetter.objects.count() == len(bodies), within=MOST_SECONDS)
    assert _written_before(command) < len(bodies) / 2


def _written_before(command: Command) -> int:
    """How many dead letters were written by a transaction before the one of the command's end."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            SELECT count(*)
            FROM {DeadLetter._meta.db_table} AS dead_letter, devices_command AS command
            WHERE command.id = %s AND dead_letter.xmin::text::bigint < command.xmin::text::bigint
            """,  # noqa: S608 (the table's own name)
            [command.pk],
        )
        row = cursor.fetchone()
    assert row
    return int(row[0])
