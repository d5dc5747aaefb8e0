"""What a batch of messages costs in statements and calls to Redis, by who looks at its devices."""

import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import cycle, islice
from typing import Any
from uuid import UUID

import pytest
import redis
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from devices.live import watchers
from devices.models import Command, CommandState, Device
from devices.presence import heartbeats
from devices.telemetry import intake, reports, responses
from devices.telemetry.tenancy import AccountCache
from natsbridge.protocol import envelope
from natsbridge.protocol.envelope import Message, RawMessage
from natsbridge.redis import client
from natsbridge.registry import Rejection
from tenants.models import Group
from tests.support.many import many_devices

pytestmark = pytest.mark.usefixtures("redis_server")

WATCHED = 10
SIZES = (20, 500)
# Savepoint and release stand for the transaction's begin and commit.
MOST_STATEMENTS = {"heartbeat": 5, "receipt": 6, "result": 6, "monitoring": 6, "metric": 1}

Record = Callable[[Sequence[Any]], list[Rejection]]
RECORD: dict[str, Record] = {
    "heartbeat": heartbeats.record_heartbeats,
    "receipt": responses.record_responses,
    "result": responses.record_responses,
    "monitoring": reports.record_realtime_data,
    "metric": intake.record_metrics,
}


@pytest.fixture
def devices(group_a: Group, monkeypatch: pytest.MonkeyPatch) -> list[Device]:
    # A test before this one may have taken Redis away.
    monkeypatch.setattr(watchers.pause, "until", 0.0)
    store().flushall()
    return many_devices(group_a, 2 * WATCHED)


@pytest.fixture(params=RECORD)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def store() -> redis.Redis:
    return client(settings.REDIS_URL)


def batch(kind: str, devices: Sequence[Device], size: int) -> list[Any]:
    """As many messages, from all of the devices in turn."""
    account = devices[0].tenant.broker_account.public_key
    senders = list(islice(cycle(devices), size))
    commands: list[UUID | None] = [None] * size
    if kind in ("receipt", "result"):
        commands = [row.uuid for row in sent_to(senders)]
    made: list[Any] = []
    for number, (device, command) in enumerate(zip(senders, commands, strict=True)):
        data = json.dumps(body(kind, number, command)).encode()
        at = timezone.now() + timedelta(milliseconds=number)
        if kind == "metric":
            subject = f"ingest.{account}.demo.system.{device.pk}.cpu_percent"
            made.append(RawMessage(subject, data, {}, at))
            continue
        name = "response" if command else kind
        decoded = envelope.decode(name, data, tenant=device.tenant_id, device=device.pk)
        raw = RawMessage(f"ingest.{account}.{name}", data, {}, at)
        made.append(Message(account, device.tenant_id, device.pk, name, decoded, raw))
    return made


def sent_to(devices: Sequence[Device]) -> list[Command]:
    return Command.objects.bulk_create(
        Command(
            device=device,
            command="ping",
            state=CommandState.SENT,
            deadline=timezone.now() + timedelta(hours=1),
        )
        for device in devices
    )


def body(kind: str, number: int, command: UUID | None) -> dict[str, Any]:
    if command:
        status = "received" if kind == "receipt" else "success"
        return {"command_id": str(command), "result": {"status": status, "result": "x" * 100}}
    if kind == "metric":
        return {"value": number}
    return {"agent_version": "1.0", "session_id": "s", "monitoring_type": "test"}


def statements(kind: str, messages: Sequence[Any]) -> list[str]:
    with CaptureQueriesContext(connection) as captured:
        assert RECORD[kind](messages) == []
    return [query["sql"] for query in captured.captured_queries]


def watch(devices: Sequence[Device]) -> None:
    for device in devices:
        watchers.watch_device(device.pk)
    watchers.watch_fleets([devices[0].tenant_id])


def published() -> int:
    return int(store().info("commandstats").get("cmdstat_publish", {}).get("calls", 0))


def test_a_batch_costs_the_same_statements_of_any_size_for_any_number_of_viewers(
    kind: str, devices: list[Device], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "_tenancy", AccountCache(lifetime=-1))
    unwatched = [statements(kind, batch(kind, devices, size)) for size in SIZES]
    watch(devices[:WATCHED])
    watched = [statements(kind, batch(kind, devices, size)) for size in SIZES]
    counts = [len(each) for each in unwatched + watched]
    assert len(set(counts)) == 1, "\n".join(watched[-1])
    assert counts[0] <= MOST_STATEMENTS[kind], "\n".join(unwatched[0])


def test_a_batch_publishes_one_frame_for_each_watched_device_and_none_for_nobody(
    kind: str, devices: list[Device]
) -> None:
    before = published()
    RECORD[kind](batch(kind, devices, 500))
    assert published() == before
    watch(devices[:WATCHED])
    frames_for = {"monitoring": 0}
    for size in SIZES:
        before = published()
        RECORD[kind](batch(kind, devices, size))
        assert published() - before == frames_for.get(kind, WATCHED)
