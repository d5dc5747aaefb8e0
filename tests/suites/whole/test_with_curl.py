"""The commands that people know from the first integration, on a running system with `curl`: only
the address and the token are new, and registering takes an enrolment key."""

import json
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pytest

from tests.support.waiting import SAFETY_NET
from tests.wegweiser.quickstart.running import Quickstart

pytestmark = [
    pytest.mark.touches("postgres", "redis", "nats"),
    pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on the PATH"),
]

NOBODY, PERSON, DEVICE = "nobody", "person", "device"
JSON = '-H "Content-Type: application/json"'
REGISTER = (
    f"curl -X POST {{url}}/api/nats/agent/register {JSON} -d "
    '\'{"groupuuid": "{group_uuid}", "devicename": "hostname", "enrollment_key": "{key}"}\''
)


class Asked(NamedTuple):
    """A command, who sends it, and what the answer has: its status, and a field's value if it is
    known beforehand."""

    command: str
    by: str
    status: int
    field: str
    value: Any = None


# `device_uuid` is the device that runs here, `new_uuid` the one that REGISTER makes.
COMMANDS = (
    # Deployment.
    Asked("curl -X POST {url}/api/nats/service/start", PERSON, 200, "actual_state", "running"),
    Asked("curl {url}/api/nats/health", NOBODY, 200, "status", "healthy"),
    # Agents that are new, and agents that exist.
    Asked("curl {url}/api/nats/agent/{new_uuid}/upgrade", PERSON, 200, "nats_credentials"),
    # Testing.
    Asked("curl {url}/api/nats/device/{device_uuid}/tenant", PERSON, 200, "org_uuid"),
    Asked("curl {url}/api/nats/device/{group_uuid}/tenant", PERSON, 404, "type", "not-found"),
    # Devices.
    Asked("curl {url}/api/nats/device/{new_uuid}/credentials", DEVICE, 200, "credentials"),
    Asked(
        f"curl -X POST {{url}}/api/nats/device/{{new_uuid}}/heartbeat {JSON} "
        '-d \'{"status": "online", "agent_version": "1.0"}\'',
        DEVICE,
        200,
        "message",
        "Heartbeat recorded.",
    ),
    Asked("curl -X POST {url}/api/nats/device/{new_uuid}/heartbeat", PERSON, 403, "type"),
    Asked(
        f"curl -X POST {{url}}/api/nats/device/{{device_uuid}}/command {JSON} "
        '-d \'{"command": "ping"}\'',
        PERSON,
        202,
        "command_id",
    ),
    Asked("curl {url}/api/nats/device/{device_uuid}/status", PERSON, 200, "is_online", True),
    Asked("curl {url}/api/nats/device/{new_uuid}/status", PERSON, 200, "last_heartbeat_by", "http"),
    # Agents.
    Asked("curl -X POST {url}/api/nats/agent/{new_uuid}/upgrade", PERSON, 200, "device_token"),
    Asked("curl {url}/api/nats/agent/{device_uuid}/config", PERSON, 200, "config"),
    Asked("curl -X POST {url}/api/nats/agent/{new_uuid}/restart", PERSON, 202, "command_id"),
    Asked(
        f"curl -X POST {{url}}/api/nats/tenant/{{tenant_uuid}}/agents/broadcast {JSON} "
        '-d \'{"command": "ping"}\'',
        PERSON,
        202,
        "total",
    ),
    # Monitoring.
    Asked("curl {url}/api/nats/metrics", PERSON, 200, "nats_stats"),
    Asked("curl {url}/api/nats/tenant/{tenant_uuid}/metrics", PERSON, 200, "device_stats"),
    Asked("curl {url}/api/nats/connections", PERSON, 200, "total_connections"),
    Asked("curl {url}/api/nats/service/status", PERSON, 200, "desired_state", "running"),
    Asked("curl {url}/api/nats/agent-status", PERSON, 200, "results"),
    Asked("curl {url}/api/nats/tenant/{tenant_uuid}/devices", PERSON, 200, "next", None),
    Asked("curl {url}/api/nats/debug/subjects", PERSON, 200, "examples"),
    Asked("curl {url}/api/nats/metrics", NOBODY, 401, "type", "not-authenticated"),
)


class Curl:
    """Sends commands, each with the token of its sender."""

    def __init__(self, whole: Quickstart) -> None:
        running = whole.running
        self._tokens = {PERSON: f"Token {running['api_token']}"}
        self.names = {name: str(value) for name, value in running.items()}
        self.names["key"] = self.names.pop("enrollment_key")
        _, found = self.send("curl {url}/api/nats/device/{device_uuid}/tenant", PERSON)
        self.names["tenant_uuid"] = found["tenant_uuid"]

    def register(self) -> None:
        status, found = self.send(REGISTER, NOBODY)
        assert (status, found["success"]) == (201, True), found
        self.names["new_uuid"] = found["deviceuuid"]
        self.take_token(found)

    def take_token(self, answer: Mapping[str, Any]) -> None:
        """A new token of the device makes the one before invalid."""
        if "device_token" in answer:
            self._tokens[DEVICE] = f"Bearer {answer['device_token']}"

    def send(self, command: str, by: str) -> tuple[int, dict[str, Any]]:
        for name, value in self.names.items():
            command = command.replace(f"{{{name}}}", value)
        options = ["--silent", "--show-error", "--write-out", "\n%{http_code}"]
        if by in self._tokens:
            options += ["--header", f"Authorization: {self._tokens[by]}"]
        done = subprocess.run(
            [*shlex.split(command), *options], capture_output=True, text=True, timeout=SAFETY_NET
        )
        assert done.returncode == 0, done.stderr
        text, _, status = done.stdout.rpartition("\n")
        return int(status), json.loads(text)


@pytest.fixture
def curl(whole: Quickstart) -> Iterator[Curl]:
    curl = Curl(whole)
    curl.register()
    yield curl
    curl.send("curl -X DELETE {url}/api/nats/device/{new_uuid}", PERSON)


def test_the_known_commands_are_answered(curl: Curl) -> None:
    for asked in COMMANDS:
        status, found = curl.send(asked.command, asked.by)
        assert status == asked.status, f"{asked.command}: {found}"
        assert asked.field in found, f"{asked.command}: {found}"
        if asked.value is not None:
            assert found[asked.field] == asked.value, f"{asked.command}: {found}"
        curl.take_token(found)
