import asyncio
import json
import signal
import time
from pathlib import Path

import nats.errors
import pytest

from natsbridge.identity.jwt import decode_jwt
from tests.devices.agent.conftest import StartAgent
from tests.devices.agent.support import (
    AgentProcess,
    FakeServer,
    Platform,
    connected,
    eventually,
)


async def test_a_jwt_is_renewed_at_half_life_and_no_command_is_lost(
    new_agent: StartAgent, platform: Platform, server: FakeServer
) -> None:
    server.lifetime = 3600
    agent = new_agent()
    agent.start()
    device = await connected(agent, platform)
    agent.kill()
    # Started with an older one, it is soon at its half-life, and far from its end.
    held = agent.configuration
    older = {"jwt_received_at": time.time() - 1797}
    (agent.folder / "agent.json").write_text(json.dumps(held | older))
    agent.start(enrol=False)
    await platform.next_heartbeat(device, after=1)
    ids: list[str] = []

    async def after_more_commands(number: int) -> None:
        for _ in range(number):
            ids.append(await platform.send(device, "ping"))
            await asyncio.sleep(0.02)

    while agent.configuration["jwt"] == held["jwt"]:
        await after_more_commands(1)
    await after_more_commands(20)

    outcomes = [await platform.result(device, command_id) for command_id in ids]

    assert {outcome["status"] for outcome in outcomes} == {"success"}
    assert len(await platform.stored(device, "response")) >= 2 * len(ids)
    assert sum("credentials" in request for request in server.requests) == 1
    assert "the connection to the broker is lost" not in agent.log_text


async def test_it_takes_a_new_credential_when_told_and_loses_no_message_under_load(
    agent: AgentProcess, platform: Platform, server: FakeServer
) -> None:
    device = await connected(agent, platform)
    old, ids = agent.configuration["jwt"], []

    async def load() -> None:
        while True:
            ids.append(await platform.send(device, "ping"))
            await asyncio.sleep(0.01)

    loading = asyncio.create_task(load())
    outcome = await platform.run(device, "renew_credentials")
    voided = {decode_jwt(old)["sub"]: decode_jwt(old)["iat"]}
    await platform.broker.push(platform.tenant, revocations=voided)
    until_then = len(ids)
    await eventually(lambda: len(ids) > until_then + 20)
    loading.cancel()

    outcomes = [await platform.result(device, command_id) for command_id in ids]

    assert outcome["status"] == "success"
    assert {each["status"] for each in outcomes} == {"success"}
    assert agent.configuration["jwt"] != old
    assert "the connection to the broker is lost" not in agent.log_text
    with pytest.raises(nats.errors.Error, match="Authorization Violation"):
        await platform.broker.connect(old, agent.configuration["nkey_seed"])


async def test_told_to_renew_while_it_is_revoked_it_answers_with_the_servers_words(
    agent: AgentProcess, platform: Platform, server: FakeServer
) -> None:
    device = await connected(agent, platform)
    server.refusals += [(403, {"title": "Forbidden", "detail": "This device is revoked."})] * 100

    outcome = await platform.run(device, "renew_credentials")

    assert outcome["status"] == "error"
    assert "This device is revoked. (403)" in outcome["error"]
    said = "This device is revoked. (403); an operator may restore it"
    await eventually(lambda: said in agent.log_text)
    await asyncio.sleep(0.5)
    # It does not spin: the next time is 7 seconds away at least.
    assert len([each for each in server.requests if "credentials" in each]) < 5


async def test_a_device_that_overslept_its_jwt_comes_back_by_itself(
    new_agent: StartAgent, platform: Platform, server: FakeServer
) -> None:
    server.lifetime = 2
    agent = new_agent()
    agent.start()
    device = await connected(agent, platform)
    agent.signal(signal.SIGSTOP)
    ends = decode_jwt(agent.configuration["jwt"])["exp"]
    await eventually(lambda: time.time() > ends)
    # Otherwise this one may end as well before the command is through.
    server.lifetime = 3600
    agent.signal(signal.SIGCONT)

    await platform.next_heartbeat(device, after=1)

    assert (await platform.run(device, "ping"))["status"] == "success"
    assert "GET /api/nats/device/" in server.requests[-1]


async def test_a_device_whose_jwt_was_revoked_logs_in_with_a_fresh_one(
    agent: AgentProcess, platform: Platform, server: FakeServer
) -> None:
    device = await connected(agent, platform)
    (key,) = server.devices
    await platform.broker.push(platform.tenant, revocations={key: int(time.time())})

    await platform.next_heartbeat(device, after=1)

    assert "the broker refuses our login" in agent.log_text


async def test_a_device_that_is_refused_keeps_asking_and_says_so(
    new_agent: StartAgent, platform: Platform, server: FakeServer
) -> None:
    server.lifetime = 2
    agent = new_agent()
    agent.start()
    await connected(agent, platform)
    server.refusals += [(404, {"title": "Not Found"})] * 100

    await eventually(lambda: "refuses this device a fresh JWT: Not Found (404)" in agent.log_text)
    await eventually(lambda: "the connection to the broker is lost" in agent.log_text)

    assert agent.process.poll() is None


async def test_it_comes_back_when_the_broker_does(agent: AgentProcess, platform: Platform) -> None:
    device = await connected(agent, platform)
    platform.broker.server.stop()
    await eventually(lambda: "no connection to the broker" in agent.log_text)
    platform.broker.start()
    await platform.connect()

    await platform.next_heartbeat(device, after=1)

    assert (await platform.run(device, "ping"))["status"] == "success"


async def test_sigterm_ends_it_without_an_error(agent: AgentProcess, platform: Platform) -> None:
    await connected(agent, platform)
    agent.signal(signal.SIGTERM)

    status, _ = agent.wait()

    assert status == 0
    assert "Traceback" not in agent.log_text


async def test_sigint_ends_it_as_well_while_the_broker_and_the_server_are_away(
    agent: AgentProcess, platform: Platform
) -> None:
    await connected(agent, platform)
    agent.kill()
    away = {"server_url": "http://127.0.0.1:9", "nats_url": "nats://127.0.0.1:9"}
    file = agent.folder / "agent.json"
    file.write_text(json.dumps(agent.configuration | away))
    agent.start(enrol=False)
    await eventually(lambda: "no fresh JWT" in agent.log_text)
    agent.signal(signal.SIGINT)

    status, _ = agent.wait()

    assert status == 0


async def test_restart_answers_first_and_is_then_a_new_agent_in_the_same_process(
    agent: AgentProcess, platform: Platform
) -> None:
    device = await connected(agent, platform)
    first = await platform.next_heartbeat(device)

    outcome = await platform.run(device, "restart")
    second = await platform.next_heartbeat(device, after=1)

    assert outcome["status"] == "success"
    assert outcome["result"]["session_id"] == first["session_id"]
    assert second["session_id"] != first["session_id"]
    assert agent.process.poll() is None
    assert (await platform.run(device, "ping"))["status"] == "success"


async def test_it_logs_to_a_file_where_told(
    new_agent: StartAgent, platform: Platform, tmp_path: Path
) -> None:
    agent = new_agent()
    agent.start("--log-file", str(tmp_path / "file.log"))
    await connected(agent, platform)

    assert "connected to the broker" in (tmp_path / "file.log").read_text()
    assert agent.log_text == ""
