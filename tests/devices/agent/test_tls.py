"""Over TLS: whom the agent trusts, and what it does with one it does not."""

import asyncio
import importlib.util
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from devices.agent import nats_persistent_agent as agent
from natsbridge.server.config import ServerTLS
from tests.devices.agent.conftest import StartAgent
from tests.devices.agent.support import AgentProcess, FakeServer, Platform, connected, eventually
from tests.plugin import allot_port
from tests.support.broker import Broker, StartNats
from tests.support.certificates import self_signed


@pytest.fixture
def own_ca(tmp_path: Path) -> ServerTLS:
    return self_signed(tmp_path)


@pytest.fixture
async def encrypted(
    start_nats: StartNats, tmp_path: Path, own_ca: ServerTLS
) -> AsyncIterator[Platform]:
    """A broker with TLS, a websocket listener and one tenant."""
    broker = Broker(start_nats, tmp_path / "broker", tls=own_ca, websocket_port=allot_port())
    broker.trust_own_certificate()
    try:
        await broker.ensure_ingest()
        platform = Platform(broker, await broker.provision())
        await platform.connect()
        yield platform
    finally:
        await broker.disconnect()


async def test_it_trusts_the_ca_it_was_given_once_for_the_api_the_broker_and_websockets(
    encrypted: Platform, own_ca: ServerTLS, tmp_path: Path
) -> None:
    broker = encrypted.broker
    websocket = f"wss://127.0.0.1:{broker.config.websocket_port}"
    server = FakeServer(encrypted.tenant, websocket, tls=own_ca)
    process = AgentProcess(tmp_path / "agent", server)
    try:
        process.start("--ca", str(own_ca.certificate))
        device = await connected(process, encrypted)
        assert (await encrypted.run(device, "ping"))["status"] == "success"
        (connection,) = agents(broker)
        assert (connection["type"], connection["tls_version"]) == ("websocket", "1.3")
        process.kill()

        server.nats_url = f"tls://127.0.0.1:{broker.config.port}"
        file = process.folder / "agent.json"
        file.write_text(json.dumps(process.configuration | {"nats_url": server.nats_url}))
        process.start(enrol=False)
        await encrypted.next_heartbeat(device, after=1)
        assert (await encrypted.run(device, "ping"))["status"] == "success"
        (connection,) = agents(broker)
        assert connection["tls_first"] is True
    finally:
        process.kill()
        server.close()


def agents(broker: Broker) -> list[dict[str, object]]:
    connections: list[dict[str, object]] = broker.monitor("/connz")["connections"]
    return [each for each in connections if "wegweiser-agent" in str(each.get("name"))]


async def test_a_certificate_of_another_ca_is_named_and_tried_again(
    new_agent: StartAgent, server: FakeServer, start_nats: StartNats, tmp_path: Path
) -> None:
    (tmp_path / "pinned").mkdir()
    pinned = self_signed(tmp_path / "pinned")
    broker = Broker(start_nats, tmp_path / "broker", tls=self_signed(tmp_path))
    server.nats_url = f"tls://127.0.0.1:{broker.config.port}"
    process = new_agent()
    process.start("--ca", str(pinned.certificate))

    await eventually(
        lambda: "does its certificate come from the --ca given?; again in" in (process.log_text)
    )

    assert "no connection to the broker: [SSL: CERTIFICATE_VERIFY_FAILED]" in process.log_text
    assert process.process.poll() is None


async def test_nobody_talks_it_out_of_tls() -> None:
    heard = asyncio.Queue[bytes]()

    async def between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"tls_required": false, "max_payload": 1048576, "nonce": "x"}\r\n')
        heard.put_nowait(await reader.read(1000))
        writer.close()

    listener = await asyncio.start_server(between, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    connection = agent.Connection("jwt", lambda: None)
    key = agent.Key(agent.Key.new_seed())
    trust = agent.Configuration("", "", "", "").trust()
    with pytest.raises(agent.BrokerUnavailableError):
        await connection.open([f"tls://127.0.0.1:{port}"], trust, key, "device")
    assert (await heard.get()).startswith(b"\x16\x03")
    listener.close()


@pytest.mark.parametrize(
    ("url", "insecure", "problem"),
    [
        ("https://wegweiser.example", False, ""),
        ("tls://nats.example:443", False, ""),
        ("wss://nats.example/nats", False, ""),
        ("http://127.0.0.1:8000", False, ""),
        ("nats://[::1]:4222", False, ""),
        ("nats://localhost", False, ""),
        ("http://wegweiser.example", False, "not encrypted"),
        ("nats://nats.example:4222", False, "not encrypted"),
        ("ws://10.0.0.1", False, "not encrypted"),
        ("http://127.example", False, "not encrypted"),
        ("http://wegweiser.example", True, ""),
        ("ftp://wegweiser.example", True, "not an address"),
        ("https://", True, "not an address"),
        ("tls://nats.example:70000", True, "not an address"),
    ],
)
def test_what_others_could_read_is_refused(url: str, insecure: bool, problem: str) -> None:
    said = agent.objection(url, insecure)
    assert problem in said if problem else not said


def test_it_says_what_websockets_need(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install aiohttp" in agent.objection("wss://nats.example", insecure=False)
    assert agent.objection("tls://nats.example", insecure=False) == ""


def test_addresses_of_several_kinds_take_turns_and_plain_ones_are_left_out() -> None:
    urls = "tls://a.example:4222,wss://a.example,tls://b.example:4222,nats://c.example"
    configuration = agent.Configuration("", "", "", agent.Key.new_seed(), nats_url=urls)
    link = agent.Link(configuration, lambda: None)
    assert set(link._servers()) == {"tls://a.example:4222", "tls://b.example:4222"}
    link._turn += 1
    assert link._servers() == ["wss://a.example"]
    configuration.nats_url = "nats://c.example"
    with pytest.raises(agent.BrokerUnavailableError, match="--insecure"):
        link._servers()


def test_the_ca_is_remembered_replaced_and_given_up(own_ca: ServerTLS, tmp_path: Path) -> None:
    configuration = agent.Configuration("https://wegweiser.example", "", "", "")
    assert agent.take_trust(agent.parse_options(["--ca", str(own_ca.certificate)]), configuration)
    assert configuration.ca.strip() == own_ca.certificate.read_text().strip()
    assert [each["serialNumber"] for each in configuration.trust().get_ca_certs()] == ["01"]
    assert not agent.take_trust(agent.parse_options([]), configuration)
    # What is no longer there does not lock out a device that works.
    assert not agent.take_trust(agent.parse_options(["--ca", "/nowhere.pem"]), configuration)
    assert agent.take_trust(agent.parse_options(["--ca", "system"]), configuration)
    assert configuration.ca == ""
    for wrong in (tmp_path / "nowhere.pem", own_ca.key):
        with pytest.raises(agent.ConfigurationError, match="not a certificate"):
            agent.take_trust(agent.parse_options(["--ca", str(wrong)]), configuration)


def test_insecure_is_asked_for_remembered_and_taken_back() -> None:
    configuration = agent.Configuration("http://wegweiser.example", "", "", "")
    with pytest.raises(agent.ConfigurationError, match="not encrypted"):
        agent.take_trust(agent.parse_options([]), configuration)
    assert agent.take_trust(agent.parse_options(["--insecure"]), configuration)
    assert not agent.take_trust(agent.parse_options([]), configuration)
    with pytest.raises(agent.ConfigurationError, match="not encrypted"):
        agent.take_trust(agent.parse_options(["--no-insecure"]), configuration)
