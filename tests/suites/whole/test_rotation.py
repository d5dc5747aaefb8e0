"""Rotating the credential of a running agent, with everything real between a person and it."""

import json
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.suites.attacks.wire import HungUp, Wire
from tests.support.waiting import SAFETY_NET, aeventually
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
    with urllib.request.urlopen(request, timeout=SAFETY_NET) as answer:
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
    await aeventually(lambda: held_by_the_agent(whole)["jwt"] != before["jwt"])
    for command in issued:

        def finished(path: str = f"/api/nats/command/{command}") -> dict[str, Any] | None:
            row = call(whole, path)
            return row if row["finished_at"] else None

        row = await aeventually(finished)
        assert row["state"] == "succeeded", row
    await aeventually(lambda: refused(before))
    await log_in(held_by_the_agent(whole))
