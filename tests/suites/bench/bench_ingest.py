"""How fast messages become rows and points. Run by `make bench`."""

import asyncio
import json
import time

import pytest
from django.conf import settings
from nats.aio.client import Client

from devices.models import RealtimeData
from devices.telemetry import intake, ring_buffers
from devices.telemetry.ring_buffers import metrics_client
from natsbridge.client.connection import Connection, connect
from natsbridge.client.pull import PullConsumer
from natsbridge.jetstream import declarations
from natsbridge.protocol.envelope import RawMessage
from tenants.broker.logins import platform_login
from tenants.models import Group
from tests.suites.bench.conftest import Figures
from tests.support.people import Enrolled, enrol
from tests.support.system import Agent, System, eventually

DEVICES = 20
REPORTS = 1_000
POINTS = 100_000


@pytest.fixture
def agents(system: System, group_a: Group) -> list[tuple[Enrolled, Agent]]:
    enrolled = [enrol(group_a, f"device {number}") for number in range(DEVICES)]
    first = system.running_agent(enrolled[0])
    return [(enrolled[0], first), *((each, system.agent(each)) for each in enrolled[1:])]


def report(number: int) -> dict[str, object]:
    """Of the size of a heartbeat, some 1.5 kB; of heartbeats the broker keeps the newest alone."""
    return {
        "monitoring_type": "bench",
        "agent_version": "1.0.0",
        "session_id": f"beat {number}",
        "timestamp": time.time(),
        "capabilities": {"receipts": True, "tools": ["ping", "osquery"], "commands": ["x" * 400]},
        "system_info": {"hostname": "bench", "platform": "Linux", "note": "y" * 800},
        "status": {"uptime": number, "load": [0.1, 0.2, 0.3]},
    }


def publish_reports(agents: list[tuple[Enrolled, Agent]]) -> None:
    bodies = [report(number) for number in range(REPORTS)]
    for _, agent in agents:
        agent.report_all("monitoring", bodies)


async def _take_and_acknowledge(connection: Connection, count: int) -> None:
    async def missing() -> None:
        raise AssertionError("INGEST is not there")

    pull = PullConsumer(
        declarations.INGEST, declarations.INGEST_WRITER, batch=500, on_missing=missing
    )
    await pull.bind(connection.client)
    taken = 0
    while taken < count:
        batch = await pull.batch(5.0)
        for message in batch:
            await connection.client.publish(message.reply, b"+ACK")
        taken += len(batch)
    await connection.client.flush()
    await pull.stop()


def test_reports_into_the_database(
    system: System, agents: list[tuple[Enrolled, Agent]], figures: Figures
) -> None:
    count = DEVICES * REPORTS
    login = platform_login()

    async def bare() -> None:
        async with connect(
            settings.NATS_URL, user_jwt=lambda: login.jwt, seed=login.seed, name="bench"
        ) as connection:
            await _take_and_acknowledge(connection, count)

    system.stop_subscriber()
    publish_reports(agents)
    with figures.measured("bound: taken from INGEST and acknowledged, nothing else", count):
        system.thread.run(bare(), timeout=120)
    publish_reports(agents)
    with figures.measured("reports in the database (with the subscriber's start)", count):
        system.start_subscriber()
        newest = RealtimeData.objects.filter(data__session_id=f"beat {REPORTS - 1}")
        eventually(lambda: newest.count() == DEVICES, within=120)


def test_points_into_the_ring_buffers(
    system: System, agents: list[tuple[Enrolled, Agent]], figures: Figures
) -> None:
    enrolled, agent = agents[0]
    system.stop_subscriber()
    body = json.dumps({"value": 1.5, "timestamp_ms": round(time.time() * 1000)}).encode()
    subject = f"demo.system.{enrolled.device.pk}.cpu_percent"
    heard = 0

    async def bare() -> None:
        nonlocal heard
        arrived = asyncio.Event()

        async def count(_: object) -> None:
            nonlocal heard
            heard += 1
            if heard == POINTS:
                arrived.set()

        async with connect(
            settings.NATS_URL, user_jwt=lambda: login.jwt, seed=login.seed, name="bench"
        ) as connection:
            await connection.client.subscribe(
                "ingest.*.demo.system.*.*", cb=count, pending_msgs_limit=-1, pending_bytes_limit=-1
            )
            await connection.client.flush()
            await publish(agent.client)
            await arrived.wait()

    async def publish(client: Client) -> None:
        for number in range(POINTS):
            await client.publish(subject, body)
            if number % 1000 == 0:
                await asyncio.sleep(0)
        await client.flush()

    login = platform_login()
    redis = metrics_client()
    encoded = [body] * 20_000
    with figures.measured("bound: as many points, encoded already, by one pipeline", POINTS):
        for _ in range(POINTS // 20_000):
            redis.pipeline(transaction=False).lpush("bench", *encoded).ltrim(
                "bench", 0, 299
            ).expire("bench", 900).execute()
    with figures.measured("published and heard by a bare callback, in one process", POINTS):
        system.thread.run(bare(), timeout=120)
    raw = RawMessage(
        f"ingest.{enrolled.device.tenant.broker_account.public_key}.{subject}",
        body,
        {},
        enrolled.device.created_at,
    )
    with figures.measured("decoded, checked and written to Redis, in batches of 20,000", POINTS):
        for _ in range(POINTS // 20_000):
            intake.record_metrics([raw] * 20_000)
    assert len(ring_buffers.recent(enrolled.device.pk)["cpu_percent"]) == 300
