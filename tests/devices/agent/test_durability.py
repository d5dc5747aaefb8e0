import asyncio
import signal

from tests.devices.agent.support import AgentProcess, Platform, connected, eventually

LONG = {"query": "SELECT 'long'"}
SHORT = {"query": "SELECT 'short'"}


def journal(agent: AgentProcess) -> str:
    return (agent.folder / "commands.journal").read_text()


async def test_an_answer_survives_the_brokers_absence_and_the_agents_death(
    agent: AgentProcess, platform: Platform
) -> None:
    device = await connected(agent, platform)
    command_id = await platform.send(device, "osquery", SHORT)
    await eventually(lambda: agent.runs)
    platform.broker.server.stop()
    await eventually(lambda: "finished" in journal(agent))
    agent.kill()
    platform.broker.start()
    await platform.connect()
    assert [each["status"] for each in await platform.results(device, command_id)] == ["received"]

    agent.start(enrol=False)

    outcome = await platform.result(device, command_id)
    assert outcome["result"] == [{"answer": "42"}]
    assert agent.runs == [SHORT["query"]]


async def test_answers_wait_for_the_platform_to_store_them(
    agent: AgentProcess, platform: Platform
) -> None:
    device = await connected(agent, platform)
    await platform.broker.remove_ingest()
    ids = [await platform.send(device, "ping") for _ in range(3)]
    await eventually(lambda: journal(agent).count("finished") == 3)
    await platform.broker.ensure_ingest()
    platform.forget()

    for command_id in ids:
        assert (await platform.result(device, command_id))["status"] == "success"

    stored = await platform.stored(device, "response")
    answered = [each["command_id"] for each in stored if each["result"]["status"] == "success"]
    assert answered == ids


async def test_a_command_cut_short_by_kill_is_answered_as_interrupted_and_never_run_again(
    agent: AgentProcess, platform: Platform
) -> None:
    device = await connected(agent, platform)
    command_id = await platform.send(device, "osquery", LONG)
    await eventually(lambda: agent.runs)
    agent.kill()
    agent.start(enrol=False)

    outcome = await platform.result(device, command_id)
    await platform.send(device, "osquery", LONG, command_id=command_id)
    await platform.run(device, "ping")

    assert outcome["status"] == "error"
    assert "interrupted" in outcome["error"]
    assert agent.runs == [LONG["query"]]


async def test_a_command_that_was_run_before_kill_is_not_run_again(
    agent: AgentProcess, platform: Platform
) -> None:
    device = await connected(agent, platform)
    query = {"query": "SELECT 'once'"}
    command_id = await platform.send(device, "osquery", query)
    await platform.result(device, command_id)
    agent.kill()
    agent.start(enrol=False)
    await platform.next_heartbeat(device, after=1)

    await platform.send(device, "osquery", query, command_id=command_id)
    await platform.run(device, "ping")

    assert agent.runs == [query["query"]]


async def test_a_command_that_was_only_received_before_kill_is_run_afterwards(
    agent: AgentProcess, platform: Platform
) -> None:
    device = await connected(agent, platform)
    for _ in range(4):
        await platform.send(device, "osquery", LONG)
    await eventually(lambda: len(agent.runs) == 4)
    command_id = await platform.send(device, "ping")
    await eventually(lambda: command_id in journal(agent))
    agent.kill()
    agent.start(enrol=False)

    assert (await platform.result(device, command_id))["status"] == "success"


async def test_a_stop_ends_what_runs_and_says_so(agent: AgentProcess, platform: Platform) -> None:
    device = await connected(agent, platform)
    command_id = await platform.send(device, "osquery", LONG)
    await eventually(lambda: agent.runs)
    agent.signal(signal.SIGTERM)

    status, _ = agent.wait()

    assert status == 0
    # What it could not send any more, it sends when it is back.
    agent.start(enrol=False)
    outcome = await platform.result(device, command_id)
    assert "interrupted" in outcome["error"]


async def test_a_hundred_commands_at_once_are_each_answered_once(
    agent: AgentProcess, platform: Platform
) -> None:
    device = await connected(agent, platform)
    ids = await asyncio.gather(*(platform.send(device, "ping") for _ in range(100)))

    for command_id in ids:
        await platform.result(device, command_id)

    stored = await platform.stored(device, "response")
    answered = [each["command_id"] for each in stored if each["result"]["status"] == "success"]
    assert sorted(answered) == sorted(ids)
