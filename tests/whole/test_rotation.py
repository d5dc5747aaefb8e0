"""Rotating the credential of a running agent, with everything real between a person and it."""

import asyncio
import json
import time
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.attacks.wire import HungUp, Wire
from tests.wegweiser.quickstart.running import Quickstart

pytestmark = pytest.mark.touches("postgres", "redis", "nats")

COMMANDS = 60


def call(whole: Quickstart, path: str, body: dict[str, Any] | None = None) -> Any:
    running = whole.running
    headers = {
        "Authorization": f"Token {running['api_token']}",
        "Content-Type": "application/json",
    }
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(running["url"] + path, data=data, headers=headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def held_by_the_agent(whole: Quickstart) -> dict[str, Any]:
    held: dict[str, Any] = json.loads((Path(whole.home) / "agent" / "agent.json").read_text())
    return held


async def log_in(credentials: dict[str, Any]) -> None:
    """Raises HungUp when the broker refuses them."""
    wire = await Wire.open(urlsplit(credentials["nats_url"]).port or 0)
    try:
        await wire.settle(wire.login((credentials["jwt"], credentials["nkey_seed"])))
    finally:
        await wire.close()


async def refused(credentials: dict[str, Any]) -> bool:
    try:
        await log_in(credentials)
    except HungUp:
        return True
    return False


async def test_a_running_agent_under_load_changes_its_credential_and_loses_nothing(
    whole: Quickstart,
) -> None:
    device = f"/api/nats/device/{whole.running['device_uuid']}"
    before = held_by_the_agent(whole)
    await log_in(before)
    issued = []
    for number in range(COMMANDS):
        if number == COMMANDS // 3:
            call(whole, f"{device}/rotate", {"overlap": "1h"})
        issued.append(call(whole, f"{device}/command", {"command": "ping"})["command_id"])
    limit = time.monotonic() + 20
    while (after := held_by_the_agent(whole))["jwt"] == before["jwt"]:
        assert time.monotonic() < limit, "the agent kept its credential"
        await asyncio.sleep(0.1)
    for command in issued:
        while (row := call(whole, f"/api/nats/command/{command}"))["finished_at"] is None:
            assert time.monotonic() < limit, row
            await asyncio.sleep(0.05)
        assert row["state"] == "succeeded", row
    while not await refused(before):
        assert time.monotonic() < limit, "the old credential still opens the broker"
        await asyncio.sleep(0.1)
    await log_in(after)
