import json
import stat

import pytest

from tests.devices.agent.conftest import StartAgent
from tests.devices.agent.support import (
    ENROLLMENT_KEY,
    AgentProcess,
    FakeServer,
    Platform,
    connected,
    eventually,
)


def test_the_private_key_is_on_disk_before_the_server_hears_of_it(
    new_agent: StartAgent, server: FakeServer
) -> None:
    agent = new_agent()
    seen: list[str] = []
    server.on_register = lambda: seen.append(agent.configuration["nkey_seed"])
    agent.start("--enroll-only")

    status, output = agent.wait()

    (device,) = server.devices.values()
    assert (status, output.strip()) == (0, str(device.uuid))
    assert seen == [agent.configuration["nkey_seed"]]
    assert agent.configuration["device_token"] == device.token
    assert device.body["devicename"] == "anna-laptop"
    assert device.body["hardwareinfo"]["cpu_count"] >= 1


def test_only_the_owner_may_read_the_configuration(
    new_agent: StartAgent, server: FakeServer
) -> None:
    agent = new_agent()
    agent.start("--enroll-only")
    agent.wait()

    assert stat.S_IMODE(agent.folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((agent.folder / "agent.json").stat().st_mode) == 0o600


async def test_a_second_start_does_not_enrol_again(
    agent: AgentProcess, platform: Platform, server: FakeServer
) -> None:
    device = await connected(agent, platform)
    agent.kill()
    agent.start(enrol=False)

    await platform.next_heartbeat(device, after=1)

    assert server.requests == ["POST /api/nats/agent/register"]


async def test_an_enrolment_cut_short_goes_on_with_the_same_key(
    new_agent: StartAgent, server: FakeServer
) -> None:
    agent = new_agent()
    # The server has registered the device, but its answer never comes.
    server.on_register = lambda: agent.process.kill()
    agent.start("--enroll-only")
    agent.wait()
    await eventually(lambda: server.devices)
    (lost,) = server.devices.values()
    assert agent.configuration["device_uuid"] == ""

    server.on_register = lambda: None
    agent.start("--enroll-only")
    _, output = agent.wait()

    assert output.strip() == str(lost.uuid)
    assert list(server.devices) == [lost.nkey_public]


async def test_a_server_that_is_away_is_asked_again(
    new_agent: StartAgent, server: FakeServer
) -> None:
    agent = new_agent()
    server.refusals.append((503, {"title": "Service Unavailable"}))
    agent.start("--enroll-only")

    status, _ = agent.wait()

    assert status == 0
    assert len(server.requests) == 2
    assert "Service Unavailable" in agent.log_text


def test_a_refused_enrolment_fails_with_the_servers_reason(new_agent: StartAgent) -> None:
    agent = new_agent()
    agent.start(key="wrong")

    status, _ = agent.wait()

    assert status == 1
    assert "error: The enrolment key is unknown. (401)" in agent.log_text


@pytest.mark.parametrize(
    "problem",
    [{"title": "Conflict", "status": 409}, {"detail": "Conflict", "title": "Something else"}],
)
def test_a_reason_is_found_in_problem_details(
    new_agent: StartAgent, server: FakeServer, problem: dict[str, object]
) -> None:
    agent = new_agent()
    server.refusals.append((409, problem))
    agent.start()

    status, _ = agent.wait()

    assert status == 1
    assert "error: Conflict (409)" in agent.log_text


def test_without_a_configuration_it_says_what_is_missing(new_agent: StartAgent) -> None:
    agent = new_agent()
    agent.start(enrol=False)

    status, _ = agent.wait()

    assert status == 1
    assert "holds no enrolled device" in agent.log_text
    assert "WEGWEISER_ENROLLMENT_KEY" in agent.log_text


def test_a_damaged_configuration_is_named_and_kept_and_the_computer_enrols_anew(
    new_agent: StartAgent, server: FakeServer
) -> None:
    agent = new_agent()
    agent.folder.mkdir(0o700)
    (agent.folder / "agent.json").write_text("{")
    agent.start(enrol=False)

    status, _ = agent.wait()

    assert status == 1
    assert "agent.json cannot be used: " in agent.log_text
    assert "WEGWEISER_ENROLLMENT_KEY" in agent.log_text
    [kept] = agent.folder.glob("agent.json.damaged-*")
    assert kept.read_text() == "{"

    agent.start("--enroll-only")

    assert agent.wait()[0] == 0
    assert len(server.devices) == 1


async def test_two_agents_cannot_run_on_one_configuration(
    agent: AgentProcess, new_agent: StartAgent, platform: Platform
) -> None:
    await connected(agent, platform)
    second = new_agent("second")
    second.start("--config-dir", str(agent.folder))

    status, _ = second.wait()

    assert status == 1
    assert f"another agent (process {agent.process.pid}) runs on" in second.log_text


async def test_no_secret_is_in_the_log(
    agent: AgentProcess, platform: Platform, server: FakeServer
) -> None:
    await connected(agent, platform)
    configuration = agent.configuration

    await eventually(lambda: "connected to the broker" in agent.log_text)

    for secret in ("nkey_seed", "device_token", "jwt"):
        assert configuration[secret] not in agent.log_text
    assert ENROLLMENT_KEY not in agent.log_text
    assert ENROLLMENT_KEY not in json.dumps(configuration)


async def test_a_server_that_moved_is_found_with_the_new_address(
    agent: AgentProcess, platform: Platform, server: FakeServer
) -> None:
    device = await connected(agent, platform)
    agent.kill()
    # Only the server knows where the broker is now.
    file = agent.folder / "agent.json"
    stale = agent.configuration | {"server_url": "http://127.0.0.1:9", "nats_url": "127.0.0.1:9"}
    file.write_text(json.dumps(stale))
    agent.start()

    await platform.next_heartbeat(device, after=1)

    assert agent.configuration["server_url"] == server.url


def test_a_new_device_does_not_answer_for_another_that_had_its_folder(
    new_agent: StartAgent,
) -> None:
    agent = new_agent()
    agent.folder.mkdir(0o700)
    journal = agent.folder / "commands.journal"
    journal.write_text('{"id": "a", "state": "received", "command": {"command": "restart"}}\n')
    agent.start("--enroll-only")
    agent.wait()

    assert not journal.exists()
