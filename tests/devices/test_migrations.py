"""Migrations on a database that has data."""

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from devices.commands import issue as commands
from devices.models import Command, Connectivity, Device
from tenants.models import Group, User
from tests.support.people import enrol

BEFORE = [("devices", "0004_finished_commands"), ("tenants", "0004_last_use_of_enrolment_keys")]


def migrate(targets: list[tuple[str, str]]) -> None:
    executor = MigrationExecutor(connection)
    executor.loader.build_graph()
    executor.migrate(targets)


@pytest.fixture
def newest(transactional_db: None) -> list[tuple[str, str]]:
    return list(MigrationExecutor(connection).loader.graph.leaf_nodes())


def test_what_devices_have_said_survives_and_receipts_hold_from_the_last_heartbeat_on(
    newest: list[tuple[str, str]], group_a: Group, alice: User
) -> None:
    device = enrol(group_a, "anna").device
    said = {"system_info": {"hostname": "anna"}}
    now = timezone.now()
    Device.objects.update(hardware_info={"cpu": 1})
    Connectivity.objects.update(
        connection_info=said, last_heartbeat=now, capabilities={"receipts": True}
    )
    result = {"b": 1, "a": [None]}
    for error in ("no response", "no such command"):
        row = commands.issue(device, "ping", {}, by=alice)
        Command.objects.filter(pk=row.pk).update(state="failed", error=error, result=result)
    try:
        migrate(BEFORE)
    finally:
        migrate(newest)
    device = Device.objects.select_related("connectivity").get(pk=device.pk)
    assert device.hardware_info == {"cpu": 1}
    assert device.connectivity.connection_info == said
    assert device.connectivity.capabilities_at == now
    rows = Command.objects.order_by("pk")
    assert list(rows.values_list("error", "unanswered", "result", "idempotency_key")) == [
        ("no response", True, result, ""),
        ("no such command", False, result, ""),
    ]
