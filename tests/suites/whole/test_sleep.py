"""A command for a device that is off, while the whole installation is stopped and started."""

import json
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.devices.agent.support import AgentProcess
from tests.support.system import eventually
from tests.support.waiting import SAFETY_NET
from tests.wegweiser.quickstart.running import Quickstart, remember_free_ports

pytestmark = [pytest.mark.touches("postgres", "redis", "nats"), pytest.mark.long]


@dataclass
class Home:
    """Where the agent enrols."""

    url: str
    group: str


def call(run: Quickstart, path: str, body: Any = None) -> Any:
    request = urllib.request.Request(
        path if path.startswith("http") else run.running["url"] + path,
        data=None if body is None else json.dumps(body).encode(),
        headers={
            "Authorization": f"Token {run.running['api_token']}",
            "Content-Type": "application/json",
        },
    )
    with urllib.request.urlopen(request, timeout=SAFETY_NET) as answer:
        return json.load(answer)


def test_a_command_survives_a_restart_of_everything_and_runs_once_when_the_device_is_back(
    tmp_path: Path,
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    remember_free_ports(home)
    run = Quickstart(home)
    agent = None
    try:
        running = run.wait_until_up()
        agent = AgentProcess(tmp_path / "agent", Home(running["url"], running["group_uuid"]))  # type: ignore[arg-type]
        agent.start(key=running["enrollment_key"])
        agent.wait_for_log("connected to the broker")
        status = f"/api/nats/device/{agent.device}/status"
        eventually(lambda: call(run, status)["is_online"])
        agent.kill()
        issued = call(
            run,
            f"/api/nats/device/{agent.device}/command",
            {"command": "osquery", "parameters": {"query": "SELECT 1"}, "deadline": "1d"},
        )
        assert run.stop() == 0
        run.process.communicate(timeout=SAFETY_NET)
        run = Quickstart(home)
        run.wait_until_up()
        eventually(lambda: call(run, status)["status"] == "Offline")
        agent.start(enrol=False)
        eventually(lambda: agent.log_text.count("connected to the broker") > 1)
        path = f"/api/nats/command/{issued['command_id']}"
        eventually(lambda: call(run, path)["state"] == "succeeded")
        assert agent.runs == ["SELECT 1"]
    finally:
        if agent is not None:
            agent.kill()
        if run.process.poll() is None:
            run.stop()
        run.process.communicate(timeout=SAFETY_NET)
