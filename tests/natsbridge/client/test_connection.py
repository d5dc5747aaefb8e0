import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import nats.errors
import pytest
import structlog
import uvloop
from nats.aio.client import Client
from nats.aio.msg import Msg

from natsbridge.client import connection as connection_module
from natsbridge.client import system_account
from natsbridge.client.connection import Connection, State, connect
from natsbridge.identity import claims, nkeys
from natsbridge.identity.permissions import SUBSCRIBER_PERMISSIONS
from tests.support.broker import Broker, StartNats, eventually
from tests.support.certificates import self_signed
from tests.support.waiting import SAFETY_NET

SUBJECT = "tests.connection"


class Keeper:
    """How these tests connect to the platform's account, and what they hear on the way."""

    def __init__(self, broker: Broker, *, lifetime: int | None = None) -> None:
        self._broker = broker
        self._user = nkeys.generate("user")
        self._lifetime = lifetime
        self.states: list[State] = []
        self.jwts: list[str] = []
        self.heard: list[bytes] = []
        self.clients: list[Client] = []

    def __call__(
        self, url: str | None = None, **options: Any
    ) -> AbstractAsyncContextManager[Connection]:
        return connect(
            url or self._broker.url,
            user_jwt=self._jwt,
            seed=self._user.seed,
            name="tests",
            on_state=self.states.append,
            **options,
        )

    def _jwt(self) -> str:
        now = int(time.time())
        jwt = claims.account_user_jwt(
            self._broker.platform,
            name="tests",
            user_public=self._user.public,
            issued_at=now,
            expires_at=now + self._lifetime if self._lifetime else None,
        )
        self.jwts.append(jwt)
        return jwt

    async def subscribe(self, client: Client) -> None:
        async def hear(message: Msg) -> None:
            self.heard.append(message.data)

        self.clients.append(client)
        await client.subscribe(SUBJECT, cb=hear)


@pytest.fixture
def logs() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as captured:
        yield captured


@pytest.fixture(autouse=True)
async def no_task_is_left_behind() -> Any:
    before = asyncio.all_tasks()
    yield

    def left() -> set[asyncio.Task[Any]]:
        return asyncio.all_tasks() - before - {asyncio.current_task()}

    assert await eventually(lambda: not left()), left()


async def heard_over(connection: Connection, keeper: Keeper) -> bool:
    """Whether a message comes round over the connection as it is now."""
    count = len(keeper.heard)
    await connection.client.publish(SUBJECT, b"round")
    return await eventually(lambda: len(keeper.heard) > count)


async def kick(broker: Broker, connection: Connection) -> None:
    system = await broker.connect_system()
    number = connection.client.client_id
    assert number is not None
    await system_account.kick(system.client, broker.server_id, number)


async def test_it_waits_for_a_server_that_is_away_and_says_for_which(
    own_broker: Broker, logs: list[Any]
) -> None:
    own_broker.server.stop()
    keeper = Keeper(own_broker)
    url = own_broker.url.replace("//", "//somebody:secret@")

    async def use() -> None:
        async with keeper(url) as connection:
            await connection.on_client(keeper.subscribe)
            assert await heard_over(connection, keeper)

    using = asyncio.create_task(use())
    assert await eventually(lambda: keeper.states == ["waiting"])
    await asyncio.sleep(0.5)
    assert not using.done()
    own_broker.start()
    await asyncio.wait_for(using, SAFETY_NET)
    assert keeper.states == ["waiting", "connected", "closed"]
    waits = [entry for entry in logs if entry["event"] == "waiting for nats-server"]
    assert len(waits) == 1
    assert waits[0]["servers"] == [f"127.0.0.1:{own_broker.config.port}"]
    assert "Connect call failed" in waits[0]["problem"]
    assert "secret" not in str(logs)


async def test_after_a_restart_of_the_server_a_fresh_client_is_subscribed(
    own_broker: Broker,
) -> None:
    keeper, errors = Keeper(own_broker), list[Exception]()
    async with keeper(on_error=errors.append) as connection:
        await connection.on_client(keeper.subscribe)
        for round_ in (1, 2):
            assert connection.is_connected
            assert await heard_over(connection, keeper)
            assert len(keeper.clients) == round_
            lost = connection.client
            own_broker.server.stop()
            assert await eventually(lambda: not connection.is_connected)
            with pytest.raises(nats.errors.Error):
                await lost.publish(SUBJECT, b"lost")
            own_broker.start()
            assert await eventually(lambda: connection.is_connected)
            assert connection.client is not lost
    assert errors == []
    assert [state for state in keeper.states if state != "waiting"] == [
        *("connected", "disconnected") * 2,
        "connected",
        "closed",
    ]


async def test_when_its_jwt_expires_it_starts_afresh_with_another(broker: Broker) -> None:
    keeper = Keeper(broker, lifetime=1)
    async with keeper() as connection:
        await connection.on_client(keeper.subscribe)
        assert await eventually(lambda: len(keeper.clients) >= 2)
        assert await eventually(lambda: connection.is_connected)
        assert len(set(keeper.jwts)) >= 2
        assert "disconnected" in keeper.states


async def test_when_it_is_kicked_it_comes_back(broker: Broker) -> None:
    keeper = Keeper(broker)
    async with keeper() as connection:
        await connection.on_client(keeper.subscribe)
        await kick(broker, connection)
        assert await eventually(lambda: len(keeper.clients) == 2)
        assert await eventually(lambda: connection.is_connected)
        assert await heard_over(connection, keeper)


async def test_a_refused_login_is_tried_again_until_it_is_allowed(
    broker: Broker, logs: list[Any]
) -> None:
    keeper = Keeper(broker)
    good, allowed = keeper._jwt(), False
    stranger = claims.account_user_jwt(
        nkeys.generate("account"), name="x", user_public=keeper._user.public, issued_at=1
    )
    refused = connect(
        broker.url,
        user_jwt=lambda: good if allowed else stranger,
        seed=keeper._user.seed,
        name="tests",
        on_state=keeper.states.append,
    )
    using = asyncio.create_task(refused.__aenter__())
    assert await eventually(lambda: keeper.states == ["waiting"])
    assert "Authorization Violation" in str(logs)
    allowed = True
    connection = await asyncio.wait_for(using, SAFETY_NET)
    assert connection.is_connected
    await refused.__aexit__(None, None, None)


async def test_a_certificate_that_it_does_not_trust_is_tried_again(
    start_nats: StartNats, tmp_path: Path, logs: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "_CLOSE_SECONDS", 0.1)
    broker = Broker(start_nats, tmp_path / "broker", tls=self_signed(tmp_path))
    keeper = Keeper(broker)
    attempts: list[Client] = []

    async def close(client: Client) -> None:
        attempts.append(client)
        await connection_close(client)

    connection_close = connection_module._close
    monkeypatch.setattr(connection_module, "_close", close)
    waiting = asyncio.create_task(keeper(broker.url.replace("nats:", "tls:")).__aenter__())
    try:
        assert await eventually(lambda: len(attempts) >= 2)
        assert "CERTIFICATE_VERIFY_FAILED" in str(logs)
    finally:
        waiting.cancel()
        await asyncio.wait([waiting], timeout=SAFETY_NET)
    assert waiting.cancelled()


async def test_nobody_talks_it_out_of_tls(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "_CLOSE_SECONDS", 0.1)
    heard = asyncio.Queue[bytes]()

    async def between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"tls_required": false, "max_payload": 1048576, "nonce": "x"}\r\n')
        heard.put_nowait(await reader.read(1000))
        writer.close()

    listener = await asyncio.start_server(between, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    waiting = asyncio.create_task(Keeper(broker)(f"tls://127.0.0.1:{port}").__aenter__())
    try:
        assert (await asyncio.wait_for(heard.get(), SAFETY_NET)).startswith(b"\x16\x03")
    finally:
        waiting.cancel()
        await asyncio.wait([waiting], timeout=SAFETY_NET)
        listener.close()


async def test_it_finds_the_server_that_is_up_among_several(own_broker: Broker) -> None:
    keeper = Keeper(own_broker)
    async with keeper(f"nats://127.0.0.1:1,{own_broker.url}") as connection:
        assert connection.is_connected


async def test_on_exit_what_was_published_is_sent_and_what_has_arrived_is_handled(
    broker: Broker,
) -> None:
    keeper, listener = Keeper(broker), await broker.connect_as(broker.platform)
    await listener.listen(SUBJECT)
    handled: list[bytes] = []

    async def slowly(message: Msg) -> None:
        await asyncio.sleep(0.02)
        handled.append(message.data)

    async with keeper() as connection:
        await connection.client.subscribe(SUBJECT, cb=slowly)
        for number in range(10):
            await connection.client.publish(SUBJECT, b"%d" % number)
        assert await eventually(lambda: handled != [])
    assert len(handled) == 10
    assert await eventually(lambda: len(listener.heard) == 10)
    assert connection.client.is_closed
    assert not connection.is_connected


async def test_a_callback_that_fails_with_the_network_is_called_again(broker: Broker) -> None:
    keeper = Keeper(broker)
    failures: Iterator[Exception] = iter(
        [nats.errors.TimeoutError(), ConnectionResetError("gone"), nats.errors.Error("nats: no")]
    )

    async def unlucky(client: Client) -> None:
        for failure in failures:
            raise failure
        await keeper.subscribe(client)

    async with keeper() as connection:
        await connection.on_client(unlucky)
        assert await eventually(lambda: len(keeper.clients) == 1)
        assert await eventually(lambda: connection.is_connected)
        assert await heard_over(connection, keeper)


@pytest.mark.parametrize("watched", [True, False])
async def test_a_programming_error_in_a_callback_is_not_hidden(
    broker: Broker, watched: bool
) -> None:
    keeper = Keeper(broker)
    calls = 0

    async def faulty(client: Client) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise ZeroDivisionError

    async def use() -> None:
        async with keeper() as connection:
            await connection.on_client(faulty)
            await kick(broker, connection)
            if watched:
                await asyncio.wait_for(connection.watch(), SAFETY_NET)
            assert await eventually(lambda: calls == 2)

    with pytest.raises(ZeroDivisionError):
        await use()
    assert keeper.states[-1] == "closed"


async def test_a_programming_error_is_not_hidden_by_an_exit_that_comes_at_once(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    closing, close = asyncio.Event(), connection_module._close

    async def close_slowly(client: Client) -> None:
        closing.set()
        await asyncio.sleep(0.2)
        await close(client)

    monkeypatch.setattr(connection_module, "_close", close_slowly)
    keeper, failures = Keeper(broker), iter([None, ZeroDivisionError()])

    async def faulty(client: Client) -> None:
        if failure := next(failures):
            raise failure

    async def use() -> None:
        async with keeper() as connection:
            await connection.on_client(faulty)
            await kick(broker, connection)
            await asyncio.wait_for(closing.wait(), SAFETY_NET)

    with pytest.raises(ZeroDivisionError):
        await use()


async def test_cancelled_while_it_waits_it_leaves_nothing(own_broker: Broker) -> None:
    own_broker.server.stop()
    keeper = Keeper(own_broker)
    waiting = asyncio.create_task(keeper().__aenter__())
    assert await eventually(lambda: keeper.states == ["waiting"])
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert keeper.states == ["waiting", "closed"]


async def test_the_server_may_be_away_on_exit(own_broker: Broker) -> None:
    keeper = Keeper(own_broker)
    async with keeper() as connection:
        await connection.on_client(keeper.subscribe)
        own_broker.server.stop()
    assert keeper.states[-1] == "closed"


async def test_what_the_server_objects_to_on_a_living_connection_is_reported(
    broker: Broker, logs: list[Any]
) -> None:
    errors: list[Exception] = []
    user = nkeys.generate("user")

    def limited() -> str:
        return claims.account_user_jwt(
            broker.platform,
            name="limited",
            user_public=user.public,
            issued_at=1,
            permissions=SUBSCRIBER_PERMISSIONS,
        )

    def open_(**options: Any) -> AbstractAsyncContextManager[Connection]:
        return connect(broker.url, user_jwt=limited, seed=user.seed, name="limited", **options)

    async with open_(on_error=errors.append) as connection:
        await connection.client.publish("not.allowed")
        assert await eventually(lambda: errors != [])
        assert connection.is_connected
    assert "permissions violation" in str(errors[0])
    async with open_() as connection:
        await connection.client.publish("not.allowed")
        assert await eventually(lambda: "nats-server reported an error" in str(logs))


def test_it_runs_on_uvloop(session_broker: Broker) -> None:
    async def scenario() -> None:
        keeper = Keeper(session_broker)
        async with keeper() as connection:
            await connection.on_client(keeper.subscribe)
            assert await heard_over(connection, keeper)

    make_loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(scenario())
