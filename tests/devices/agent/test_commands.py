import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from devices.agent import nats_persistent_agent
from tests.devices.agent.conftest import StartAgent
from tests.devices.agent.support import AgentProcess, Platform, eventually

SUMMARY_PARTS = {"cpu", "memory", "swap", "disks", "network", "users", "uptime", "load"}


async def test_ping_answers_with_the_agents_clock_and_version(
    module_agent: AgentProcess, platform: Platform
) -> None:
    before = time.time()
    outcome = await platform.run(module_agent.device, "ping")

    assert outcome["status"] == "success"
    assert outcome["result"]["message"] == "pong"
    assert outcome["result"]["agent_version"] == nats_persistent_agent.VERSION
    assert before - 1 <= outcome["result"]["agent_time"] <= time.time() + 1
    assert outcome["duration_ms"] >= 0


async def test_a_bare_command_is_taken_as_a_wrapped_one_is(
    module_agent: AgentProcess, platform: Platform
) -> None:
    outcome = await platform.run(module_agent.device, "ping", wrapped=False)

    assert outcome["status"] == "success"


async def test_system_info_says_what_the_computer_is(
    module_agent: AgentProcess, platform: Platform
) -> None:
    outcome = await platform.run(module_agent.device, "system_info")

    assert outcome["result"]["hostname"] == os.uname().nodename
    assert outcome["result"]["platform"] == "Linux"
    assert outcome["result"]["cpu_count"] == os.cpu_count()
    assert outcome["result"]["memory_total"] > 0


async def test_psutil_info_gives_a_summary_unless_told_otherwise(
    module_agent: AgentProcess, platform: Platform
) -> None:
    outcome = await platform.run(module_agent.device, "psutil_info")

    assert outcome["result"].keys() >= SUMMARY_PARTS


async def test_psutil_info_lists_the_largest_processes_first(
    module_agent: AgentProcess, platform: Platform
) -> None:
    parameters = {"kind": "processes", "sort_by": "memory", "limit": 3}
    outcome = await platform.run(module_agent.device, "psutil_info", parameters)

    shares = [process["memory_percent"] for process in outcome["result"]]
    assert len(shares) == 3
    assert shares == sorted(shares, reverse=True)


@pytest.mark.parametrize(
    ("command", "parameters", "error"),
    [
        ("format_disk", {}, "unknown command 'format_disk'; this agent offers: ping, "),
        (None, {}, "unknown command None; this agent offers: ping, "),
        ("ping", {"loud": True}, "ping has no parameter 'loud'; it takes: none"),
        ("ping", [1], "parameters must be an object"),
        ("psutil_info", {"kind": "secrets"}, "kind must be one of: summary, processes"),
        ("psutil_info", {"limit": 0}, "limit must be an integer from 1 to 500"),
        ("psutil_info", {"limit": True}, "limit must be an integer from 1 to 500"),
        ("psutil_info", {"limit": "5"}, "limit must be an integer from 1 to 500"),
        ("start_metrics", {"interval": 0.1}, "interval must be a number from 0.5 to 60"),
        ("start_metrics", {"metrics": ["fan"]}, "metrics must be a list of: cpu_percent, "),
        ("start_metrics", {"metrics": []}, "metrics must be a list of: cpu_percent, "),
        ("osquery", {}, "osquery needs the parameter query"),
        ("osquery", {"query": 1}, "query must be a string"),
        ("osquery", {"query": "DELETE FROM users"}, "only a SELECT statement is allowed"),
        ("osquery", {"query": "SELECT 1; SELECT 2"}, "only one statement is allowed"),
        ("osquery", {"query": "SELECT 'broken'"}, "osquery failed (1): no such table"),
        ("osquery", {"query": "SELECT 'long'", "timeout": 1}, "osquery took longer than 1 s"),
        ("osquery", {"query": "SELECT 'flood'"}, "larger than 8388608 bytes"),
    ],
)
async def test_what_cannot_be_done_is_answered_with_what_is_allowed(
    module_agent: AgentProcess, platform: Platform, command: Any, parameters: Any, error: str
) -> None:
    outcome = await platform.run(module_agent.device, command, parameters)

    assert outcome["status"] == "error"
    assert error in outcome["error"]


async def test_a_huge_result_is_cut_and_says_so(
    module_agent: AgentProcess, platform: Platform
) -> None:
    outcome = await platform.run(module_agent.device, "osquery", {"query": "SELECT 'huge'"})

    assert outcome["status"] == "success", outcome.get("error")
    assert len(outcome["result"]) * len('{"answer":"42"},') == pytest.approx(
        nats_persistent_agent.MAX_RESULT_BYTES, abs=32
    )
    assert outcome["cut_from"] == 2 + 60_000 * len('{"answer":"42"},') + 2


def test_a_long_text_is_cut_where_it_still_fits_once_it_is_json() -> None:
    for text in ("x" * 400_000, '"' * 400_000, "ü" * 400_000, {"a": "\n" * 400_000}):
        cut = nats_persistent_agent.within_limit(text)
        size = len(nats_persistent_agent.to_json(cut["result"]))
        assert 0.98 < size / nats_persistent_agent.MAX_RESULT_BYTES <= 1


async def test_osquery_gives_the_rows(module_agent: AgentProcess, platform: Platform) -> None:
    outcome = await platform.run(module_agent.device, "osquery", {"query": "select 42;"})

    assert outcome["result"] == [{"answer": "42"}]
    assert module_agent.runs[-1] == "select 42"


async def test_a_computer_without_osquery_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(nats_persistent_agent, "OSQUERY_FOLDERS", [])

    with pytest.raises(nats_persistent_agent.CommandError, match="osquery is not installed"):
        await nats_persistent_agent.osquery("SELECT 1", 5)


async def test_the_receipt_comes_before_the_result(
    module_agent: AgentProcess, platform: Platform
) -> None:
    command_id = await platform.send(module_agent.device, "ping")
    await platform.result(module_agent.device, command_id)

    results = await platform.results(module_agent.device, command_id)

    assert [result["status"] for result in results] == ["received", "success"]


async def test_a_repeated_command_is_confirmed_again_but_not_run_again(
    module_agent: AgentProcess, platform: Platform
) -> None:
    device = module_agent.device
    query = {"query": "SELECT 'repeated'"}
    command_id = await platform.send(device, "osquery", query)
    await platform.result(device, command_id)
    await platform.send(device, "osquery", query, command_id=command_id)

    async def receipts() -> bool:
        results = await platform.results(device, command_id)
        return [result["status"] for result in results].count("received") == 2

    await eventually(receipts)
    assert module_agent.runs.count(query["query"]) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b"[" * 100_000,
        b'{"stream": "INGEST", "seq": 1}',
        b'{"payload": {"command": "ping"}}',
        b'{"command": "ping", "command_id": 7}',
        json.dumps({"command": "ping", "command_id": "x" * 1000}).encode(),
    ],
)
async def test_a_message_that_is_not_a_command_is_ignored(
    module_agent: AgentProcess, platform: Platform, body: bytes
) -> None:
    await platform.send_raw(module_agent.device, body)
    await platform.run(module_agent.device, "ping")

    responses = await platform.stored(module_agent.device, "response")
    assert len(responses) == 2


async def test_a_long_command_holds_up_no_other(
    module_agent: AgentProcess, platform: Platform
) -> None:
    device = module_agent.device
    query = {"query": "SELECT 'held'"}
    with module_agent.holding():
        long = await platform.send(device, "osquery", query)
        await eventually(lambda: query["query"] in module_agent.runs)
        await platform.run(device, "ping")
        results = await platform.results(device, long)
        assert {each["status"] for each in results} <= {"received"}

    assert (await platform.result(device, long))["status"] == "success"


async def test_no_more_than_four_commands_run_at_once(
    module_agent: AgentProcess, platform: Platform
) -> None:
    device = module_agent.device
    query = {"query": "SELECT 'held', 'crowd'"}
    with module_agent.holding():
        ids = [await platform.send(device, "osquery", query) for _ in range(5)]
        await eventually(lambda: module_agent.runs.count(query["query"]) >= 4)
        await asyncio.sleep(0.2)
        assert module_agent.runs.count(query["query"]) == 4

    outcomes = [await platform.result(device, command_id) for command_id in ids]
    assert {outcome["status"] for outcome in outcomes} == {"success"}


async def test_the_heartbeat_says_who_the_agent_is_and_what_it_offers(
    new_agent: StartAgent, platform: Platform
) -> None:
    before = time.time()
    agent = new_agent()
    agent.start()
    await eventually(lambda: agent.configuration.get("device_uuid"))

    heartbeat = await platform.next_heartbeat(agent.device)

    assert heartbeat["agent_version"] == nats_persistent_agent.VERSION
    assert before - 1 <= heartbeat["timestamp"] <= time.time() + 1
    capabilities = heartbeat["capabilities"]
    assert capabilities["receipts"] is True
    assert capabilities["tools"] == ["psutil", "osquery"]
    assert len(capabilities["streaming_metrics"]) == 6
    offered = {command["name"]: command["parameters"] for command in capabilities["commands"]}
    assert list(offered) == [
        "ping",
        "system_info",
        "psutil_info",
        "osquery",
        "start_metrics",
        "stop_metrics",
        "renew_credentials",
        "restart",
    ]
    assert offered["osquery"][0] == {
        "name": "query",
        "type": "string",
        "required": True,
        "default": None,
        "description": "Exactly one SELECT statement.",
    }
    assert offered["psutil_info"][0]["choices"] == ["summary", "processes"]
    assert heartbeat["system_info"]["hostname"] == os.uname().nodename
    assert heartbeat["status"]["uptime"] > 0
    assert len(heartbeat["status"]["load"]) == 3
