import asyncio
import ssl
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from natsbridge.client import pull, system_account
from natsbridge.errors import BridgeError
from natsbridge.identity import claims, nkeys
from natsbridge.jetstream.declarations import TRIES
from natsbridge.protocol.subjects import device_subject
from natsbridge.server import config as server_config
from natsbridge.server.config import ServerConfig, ServerTLS, render
from tests.plugin import allot_port
from tests.suites.attacks.wire import Wire, subscribe
from tests.support.broker import Broker, StartNats, Tenant, eventually
from tests.support.certificates import self_signed
from tests.support.waiting import SAFETY_NET


def config(**changes: Any) -> ServerConfig:
    values: dict[str, Any] = {
        "server_name": "one",
        "port": 4222,
        "monitor_port": 8222,
        "store_dir": Path("/data/jetstream"),
        "resolver_dir": Path("/data/accounts"),
        "operator_jwt": "operator.jwt",
        "system_account": "ASYS",
        "preload": {"ASYS": "system.jwt"},
    }
    return ServerConfig(**(values | changes))


async def test_the_server_runs_with_the_settings_it_was_given(own_broker: Broker) -> None:
    told = own_broker.monitor("/varz")
    assert told["host"] == "127.0.0.1"
    assert told["max_payload"] == 1024**2
    assert 20_000_000 <= told["max_pending"] < 64 * 1024**2
    assert told["ping_interval"] == 15_000_000_000
    assert told["ping_max"] == 2
    assert told["http_host"] == "127.0.0.1"
    assert told["system_account"] == own_broker.system.public
    jetstream = told["jetstream"]["config"]
    assert jetstream["strict"] is True
    assert jetstream["sync_interval"] == 1_000_000_000
    assert jetstream["max_storage"] == own_broker.config.max_file_store
    assert jetstream["max_memory"] == own_broker.config.max_memory_store


async def test_a_path_may_hold_whatever_a_path_can(start_nats: StartNats, tmp_path: Path) -> None:
    home = tmp_path / "sp ace \"quoted\" back\\slash $HOME 'ü' {brace} # no comment"
    broker = Broker(start_nats, home)
    await broker.provision()
    assert (home / "jetstream").is_dir()
    assert list((home / "accounts").rglob("*.jwt"))
    await broker.disconnect()


def test_a_value_cannot_add_a_line_to_the_configuration() -> None:
    for wrong in ("one\ntrace: true", "one\r", "one\0"):
        with pytest.raises(BridgeError):
            render(config(server_name=wrong))
    assert 'server_name: "a\\" b\\\\"' in render(config(server_name='a" b\\'))


def test_a_listener_outside_loopback_needs_tls() -> None:
    for host in ("0.0.0.0", "192.168.1.1", "nats.example.org", "::"):
        with pytest.raises(BridgeError, match="needs TLS"):
            render(config(host=host))
    tls = ServerTLS(certificate=Path("/tls/cert.pem"), key=Path("/tls/key.pem"))
    assert 'cert_file: "/tls/cert.pem"' in render(config(host="0.0.0.0", tls=tls))


def test_monitoring_stays_on_loopback_and_tracing_off() -> None:
    tls = ServerTLS(certificate=Path("cert.pem"), key=Path("key.pem"))
    text = render(config(host="0.0.0.0", tls=tls))
    assert 'http: "127.0.0.1:8222"' in text
    assert "trace" not in text
    assert "debug" not in text


def test_with_a_sentinel_logins_have_the_time_that_a_storm_of_them_takes() -> None:
    text = render(config(default_sentinel="eyJ.x.y"))
    assert 'default_sentinel: "eyJ.x.y"' in text
    assert "authorization {\n  timeout: 10\n}" in text
    assert "authorization" not in render(config())


async def test_claims_that_were_pushed_outlive_a_restart_and_win_over_the_preload(
    own_broker: Broker,
) -> None:
    tenant = await own_broker.provision()
    preloaded = own_broker.config.preload[own_broker.platform.public]
    newer = claims.platform_account_jwt(
        own_broker.operator,
        own_broker.platform.public,
        system_account=own_broker.system.public,
        issued_at=2**31,
    )
    system = await own_broker.connect_system()
    await system_account.push(system.client, newer)
    pushed = await system_account.lookup(system.client, tenant.account.public)
    await own_broker.disconnect()
    own_broker.server.stop()
    own_broker.start()
    system = await own_broker.connect_system()
    assert newer != preloaded
    assert await system_account.lookup(system.client, own_broker.platform.public) == newer
    assert await system_account.lookup(system.client, tenant.account.public) == pushed


async def test_a_message_that_was_acknowledged_outlives_a_kill(own_broker: Broker) -> None:
    await own_broker.ensure_ingest()
    tenant, device = await own_broker.provision(), uuid4()
    peer = await own_broker.connect_device(tenant, device)
    for _ in range(20):
        await peer.jetstream.publish(device_subject(tenant.uuid, device, "response"), b"{}")
    assert own_broker.server.child is not None
    own_broker.server.child.process.kill()
    own_broker.server.child.process.wait()
    await own_broker.disconnect()
    own_broker.start()
    platform = await own_broker.connect_subscriber()
    assert (await platform.jetstream.stream_info("INGEST")).state.messages == 20


def test_the_log_is_set_aside_when_it_has_grown_and_old_ones_go(
    start_nats: StartNats, tmp_path: Path
) -> None:
    Broker(start_nats, tmp_path / "b", log_file=tmp_path / "logs", log_size_limit=600, log_files=5)
    logs = list(tmp_path.glob("logs*"))
    assert 2 <= len(logs) <= 6
    assert all(log.stat().st_size < 2_000 for log in logs)


def test_the_log_of_an_attack_leaves_room_for_what_was_before_it(
    start_nats: StartNats, tmp_path: Path
) -> None:
    text = render(config(log_file=Path("/log")))
    size, files = (
        int(next(line for line in text.splitlines() if line.startswith(name)).split()[1])
        for name in ("log_size_limit", "logfile_max_num")
    )
    # 37 MB a second is what one client can have written.
    assert size * (files - 1) / 37_000_000 > 60


async def test_connections_that_never_read_cost_the_server_a_bounded_memory(
    own_broker: Broker,
) -> None:
    """What is for them beyond `max_pending` ends them; a speaker and its listeners go on."""
    tenant = await own_broker.provision()
    subject = f"tenant.{tenant.uuid}.flood"
    deaf = [await _deaf(own_broker, tenant, subject) for _ in range(10)]
    speaker = await own_broker.connect_tenant(tenant)
    heard = await own_broker.connect_tenant(tenant)
    await heard.listen(subject)
    body = bytes(60_000)
    for _ in range(80 * 1024**2 // len(body)):
        await speaker.publish(subject, body)
    assert await eventually(lambda: own_broker.monitor("/varz")["slow_consumers"] >= len(deaf))
    assert await heard.may_publish(subject)
    assert own_broker.monitor("/varz")["mem"] < len(deaf) * 40 * 1024**2
    for wire in deaf:
        await wire.close()


async def test_a_reader_of_ours_may_pause_for_two_seconds_of_ten_megabytes(
    own_broker: Broker,
) -> None:
    tenant = await own_broker.provision()
    subject = f"tenant.{tenant.uuid}.flood"
    pausing = await _deaf(own_broker, tenant, subject)
    speaker = await own_broker.connect_tenant(tenant)
    for _ in range(20_000):
        await speaker.client.publish(subject, bytes(1_000))
    await speaker.settle()
    while len(pausing.heard) < 20_000:
        await pausing.settle()
    assert own_broker.monitor("/varz")["slow_consumers"] == 0
    await pausing.close()


def test_what_our_consumers_ask_for_at_once_fits_what_may_wait_for_them() -> None:
    open_requests = 2 * len(TRIES)
    assert open_requests * pull._REQUEST_BYTES < server_config._MAX_PENDING


async def _deaf(broker: Broker, tenant: Tenant, subject: str) -> Wire:
    """A connection of the tenant's credential that listens to the subject, and does not read."""
    user = nkeys.generate("user")
    jwt = claims.tenant_user_jwt(
        tenant.tenant_key,
        account=tenant.account.public,
        tenant=tenant.uuid,
        user_public=user.public,
        issued_at=int(time.time()),
    )
    wire = await Wire.open(broker.config.port)
    await wire.settle(wire.login((jwt, user.seed)) + subscribe(subject, 1))
    return wire


async def test_the_websocket_listener_answers(start_nats: StartNats, tmp_path: Path) -> None:
    port = allot_port()
    Broker(start_nats, tmp_path, websocket_port=port)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    assert b"101" in await asyncio.wait_for(reader.readline(), SAFETY_NET)
    writer.close()
    await writer.wait_closed()


async def test_with_tls_nobody_is_admitted_without(start_nats: StartNats, tmp_path: Path) -> None:
    tls = self_signed(tmp_path)
    broker = Broker(start_nats, tmp_path / "broker", tls=tls)
    trusting = ssl.create_default_context(cafile=tls.certificate)
    user = nkeys.generate("user")
    jwt = claims.account_user_jwt(
        broker.platform, name="test", user_public=user.public, issued_at=1
    )
    peer = await broker.connect(jwt, user.seed, tls=trusting)
    assert peer.client.is_connected
    with pytest.raises(ssl.SSLCertVerificationError):
        await broker.connect(jwt, user.seed, tls=ssl.create_default_context())
    await broker.disconnect()
