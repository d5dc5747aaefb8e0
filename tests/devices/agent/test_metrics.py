import asyncio
import json
import time
from typing import Any

from tests.devices.agent.support import AgentProcess, Platform, connected, eventually
from tests.support.broker import Peer

ALL_METRICS = {
    "cpu_percent",
    "memory_percent",
    "disk_percent",
    "network_bytes_in",
    "network_bytes_out",
    "uptime",
}


async def listen(platform: Platform, agent: AgentProcess) -> Peer:
    peer = platform.peer
    account = platform.tenant.account.public
    await peer.listen(f"ingest.{account}.demo.system.{agent.device}.*")
    return peer


def bodies(peer: Peer) -> list[dict[str, Any]]:
    return [json.loads(message.data) for message in peer.heard]


def metric_types(peer: Peer) -> set[str]:
    return {body["metric_type"] for body in bodies(peer)}


async def test_six_metrics_are_streamed(agent: AgentProcess, platform: Platform) -> None:
    device = await connected(agent, platform)
    before = time.time()
    peer = await listen(platform, agent)

    await eventually(lambda: metric_types(peer) == ALL_METRICS)

    for message, body in zip(peer.heard, bodies(peer), strict=True):
        assert message.subject.endswith(f"{device}.{body['metric_type']}")
        assert body["device_uuid"] == str(device)
        assert body["tenant_uuid"] == str(platform.tenant.uuid)
        assert body["value"] >= 0
        assert before - 10 <= body["timestamp_ms"] / 1000 <= time.time() + 1


async def test_start_metrics_holds_for_its_ttl(agent: AgentProcess, platform: Platform) -> None:
    device = await connected(agent, platform)
    parameters = {"metrics": ["uptime"], "interval": 0.5, "ttl": 2.2}
    begun = time.time()
    outcome = await platform.run(device, "start_metrics", parameters)
    assert outcome["result"] == parameters
    peer = await listen(platform, agent)

    await eventually(lambda: metric_types(peer) == ALL_METRICS)
    others = [body for body in bodies(peer) if body["metric_type"] != "uptime"]
    assert min(body["timestamp_ms"] for body in others) / 1000 >= begun + parameters["ttl"]


async def test_stop_metrics_stops_them_until_they_are_started(
    agent: AgentProcess, platform: Platform
) -> None:
    device = await connected(agent, platform)
    await platform.run(device, "stop_metrics")
    peer = await listen(platform, agent)

    await asyncio.sleep(2.5)
    assert peer.heard == []

    await platform.run(device, "start_metrics", {"metrics": ["cpu_percent"]})
    await eventually(lambda: metric_types(peer) == {"cpu_percent"})
