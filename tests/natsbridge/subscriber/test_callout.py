"""Logins through the auth callout: which the real server admits on its word, and where."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from uuid import UUID, uuid4

import nats.errors
import pytest
from django.db import OperationalError
from nats.aio.msg import Msg

from natsbridge.identity import claims, nkeys
from natsbridge.identity.jwt import signed
from natsbridge.identity.nkeys import KeyPair
from natsbridge.identity.permissions import CALLOUT_SUBJECT
from natsbridge.protocol import subjects
from natsbridge.protocol.kinds import DURABLE_TYPES
from natsbridge.protocol.login_request import Login
from natsbridge.protocol.subjects import (
    command_export,
    device_subject,
)
from natsbridge.subscriber.callout import Verdict
from tests.plugin import allot_port
from tests.suites.attacks.wire import HungUp, Wire, publish
from tests.support.broker import Broker, Peer, StartNats, Tenant, eventually, metric_subject
from tests.support.callout import (
    ConnectOptions,
    Doorkeeper,
    as_the_callout,
    by_password,
    by_sentinel,
    log_in,
    running_callout,
)

LEAF_NODE_PORT = allot_port()


@pytest.fixture(scope="module")
def session_callout_broker(
    start_session_nats: StartNats, tmp_path_factory: pytest.TempPathFactory
) -> Broker:
    return Broker(
        start_session_nats,
        tmp_path_factory.mktemp("callout"),
        callout=True,
        additional=f'leafnodes {{ host: "127.0.0.1", port: {LEAF_NODE_PORT} }}\n',
        websocket_port=allot_port(),
    )


@pytest.fixture
async def broker(session_callout_broker: Broker) -> AsyncIterator[Broker]:
    try:
        await session_callout_broker.ensure_ingest()
        yield session_callout_broker
    finally:
        await session_callout_broker.disconnect()


@pytest.fixture
def doorkeeper() -> Doorkeeper:
    return Doorkeeper()


async def refused(broker: Broker, options: ConnectOptions) -> bool:
    try:
        await log_in(broker, options)
    except nats.errors.Error as error:
        return "authorization violation" in str(error).lower()
    return False


async def test_a_devices_password_opens_what_its_jwt_would_and_no_more(
    broker: Broker, doorkeeper: Doorkeeper
) -> None:
    tenant, device, sibling = await broker.provision(), uuid4(), uuid4()
    options = doorkeeper.admit_device(tenant, device, "right")
    websocket = f"ws://127.0.0.1:{broker.config.websocket_port}"
    async with running_callout(broker, doorkeeper):
        for url in (broker.url, websocket):
            peer = await log_in(broker, options, url=url)
            await _has_exactly_a_devices_rights(peer, tenant, device, sibling)
    assert [login.listener for login in doorkeeper.asked] == ["nats", "websocket"]


async def _has_exactly_a_devices_rights(
    peer: Peer, tenant: Tenant, device: UUID, sibling: UUID
) -> None:
    own = [device_subject(tenant.uuid, device, kind) for kind in DURABLE_TYPES]
    for subject in (*own, metric_subject(device, "cpu_percent")):
        assert await peer.may_publish(subject), subject
    for subject in (
        device_subject(tenant.uuid, sibling, "heartbeat"),
        device_subject(tenant.uuid, device, "command"),
        metric_subject(sibling, "cpu_percent"),
        command_export(tenant.account.public, sibling),
        f"$JS.API.STREAM.INFO.{subjects.tenant_stream_name(tenant.uuid)}",
        CALLOUT_SUBJECT,
    ):
        assert not await peer.may_publish(subject), subject
    assert await peer.may_subscribe(device_subject(tenant.uuid, device, "command"))
    assert await peer.may_subscribe(f"{subjects.device_inbox(device)}.>")
    for subject in (device_subject(tenant.uuid, sibling, "command"), "_INBOX.>", ">", "$SYS.>"):
        assert not await peer.may_subscribe(subject), subject


async def test_a_tenants_password_opens_its_own_space_without_the_commands(
    broker: Broker, doorkeeper: Doorkeeper
) -> None:
    tenant, other, device = await broker.provision(), await broker.provision(), uuid4()
    options = doorkeeper.admit_tenant(tenant, "right")
    async with running_callout(broker, doorkeeper):
        peer = await log_in(broker, options)
    assert await peer.may_publish(device_subject(tenant.uuid, device, "heartbeat"))
    assert await peer.may_subscribe(f"tenant.{tenant.uuid}.>")
    info = await peer.jetstream.stream_info(subjects.tenant_stream_name(tenant.uuid))
    assert info.state.messages == 1
    for subject in (
        device_subject(tenant.uuid, device, "command"),
        device_subject(other.uuid, device, "heartbeat"),
        f"$JS.API.STREAM.DELETE.{subjects.tenant_stream_name(tenant.uuid)}",
    ):
        assert not await peer.may_publish(subject), subject
    assert not await peer.may_subscribe(f"tenant.{other.uuid}.>")


async def test_a_login_without_a_good_password_is_refused(
    broker: Broker, doorkeeper: Doorkeeper
) -> None:
    tenant, device = await broker.provision(), uuid4()
    good = doorkeeper.admit_device(tenant, device, "right")
    async with running_callout(broker, doorkeeper):
        assert await refused(broker, good | {"pass": "wrong"})
        assert await refused(broker, by_password(f"device_{uuid4()}", "right"))
        assert await refused(broker, by_sentinel(broker))
        assert await refused(broker, {})
        assert not await refused(broker, good)
    assert doorkeeper.counters == {"auth.refused": 4, "auth.admitted": 1}


async def test_naming_the_callouts_own_user_opens_nothing(
    broker: Broker, doorkeeper: Doorkeeper
) -> None:
    async with running_callout(broker, doorkeeper):
        assert await refused(broker, as_the_callout(broker))
        wire = await Wire.open(broker.config.port)
        login = wire.login(None, nkey=broker.callout_user.public)
        with pytest.raises(HungUp):
            await wire.settle(login + publish("anything", b""))
        await wire.close()
    assert not any(wire.heard)


async def test_a_password_opens_no_leaf_node(broker: Broker, doorkeeper: Doorkeeper) -> None:
    tenant, device = await broker.provision(), uuid4()
    options = doorkeeper.admit_device(tenant, device, "right")
    async with running_callout(broker, doorkeeper):
        wire = await Wire.open(LEAF_NODE_PORT)
        leaf = {"name": "leaf", "server_id": nkeys.generate("account").public}
        with pytest.raises(HungUp):
            await wire.settle(wire.login(None, **options, **leaf))
        await wire.close()
    assert doorkeeper.asked == []


async def test_a_server_of_an_earlier_version_asks_once_it_has_the_new_configuration(
    start_nats: StartNats, tmp_path: Path, doorkeeper: Doorkeeper
) -> None:
    broker = Broker(start_nats, tmp_path / "broker")
    try:
        await broker.ensure_ingest()
        tenant, device = await broker.provision(), uuid4()
        options = doorkeeper.admit_device(tenant, device, "right")
        assert await refused(broker, options)
        await broker.disconnect()
        broker.server.stop()
        broker.add_callout()
        broker.start()
        async with running_callout(broker, doorkeeper):
            peer = await log_in(broker, options)
            assert await peer.may_publish(device_subject(tenant.uuid, device, "heartbeat"))
        assert not (await broker.connect_device(tenant, device)).refusals
    finally:
        await broker.disconnect()


Misplace = Callable[[Broker, Tenant, Login], str]


def _user(issuer: KeyPair, login: Login, **nats: object) -> str:
    body = {"type": "user", "pub": {}, "sub": {}, **nats}
    return signed(issuer, login.user_key, body, name=str(uuid4()), issued_at=int(time.time()))


MISPLACED: dict[str, Misplace] = {
    "in SYS, by the callout's key": lambda broker, _, login: _user(
        broker.auth.account, login, issuer_account=broker.system.public
    ),
    "in WEGWEISER, by the callout's key": lambda broker, _, login: _user(
        broker.auth.account, login, issuer_account=broker.platform.public
    ),
    "in SYS, by a tenant's scoped key": lambda broker, tenant, login: _user(
        tenant.device_key, login, issuer_account=broker.system.public
    ),
    "in WEGWEISER, by a tenant's scoped key": lambda broker, tenant, login: _user(
        tenant.device_key, login, issuer_account=broker.platform.public
    ),
    "in its tenant, with permissions of its own": lambda broker, tenant, login: _user(
        tenant.device_key,
        login,
        issuer_account=tenant.account.public,
        pub={"allow": [">"]},
        subs=-1,
        data=-1,
        payload=-1,
    ),
    "in its tenant, for another login": lambda broker, tenant, login: claims.device_user_jwt(
        tenant.device_key,
        account=tenant.account.public,
        device=uuid4(),
        user_public=nkeys.generate("user").public,
        issued_at=int(time.time()),
        expires_at=None,
    ),
}


async def test_what_the_callout_holds_places_nobody_in_sys_or_wegweiser(
    broker: Broker, doorkeeper: Doorkeeper
) -> None:
    tenant = await broker.provision()
    for name, misplace in MISPLACED.items():
        doorkeeper.admit(name, "x", lambda login, make=misplace: make(broker, tenant, login))
    # The same by the right key for its own account, so not all are refused for another reason.
    doorkeeper.admit(
        "placed",
        "x",
        lambda login: _user(tenant.device_key, login, issuer_account=tenant.account.public),
    )
    async with running_callout(broker, doorkeeper):
        for name in MISPLACED:
            assert await refused(broker, by_password(name, "x")), name
        await log_in(broker, by_password("placed", "x"))


async def test_a_question_is_answered_once_and_only_to_a_server_of_ours(
    broker: Broker, doorkeeper: Doorkeeper
) -> None:
    questions: list[Msg] = []

    async def overhear(message: Msg) -> None:
        questions.append(message)

    async with running_callout(broker, doorkeeper) as callout:
        ear = await broker.connect(*_callout_login(broker))
        await ear.client.subscribe(CALLOUT_SUBJECT, cb=overhear)
        await ear.settle()
        assert await refused(broker, by_password("nobody", "x"))
        assert await eventually(lambda: len(questions) == 1)
        await callout.receive(questions[0])
        assert await eventually(lambda: doorkeeper.rejections == ["replayed"])
        assert len(doorkeeper.asked) == 1
        assert not await ear.may_publish(CALLOUT_SUBJECT), "not even the callout may ask"
    async with running_callout(broker, doorkeeper, lonely=True) as callout:
        await callout.receive(questions[0])
        assert await eventually(lambda: "from an unknown server" in doorkeeper.rejections)
    assert len(doorkeeper.asked) == 1


def _callout_login(broker: Broker) -> tuple[str, str]:
    """The callout's own user, with every right in its account."""
    user = broker.callout_user
    jwt = claims.account_user_jwt(
        broker.auth.account, name="owner", user_public=user.public, issued_at=int(time.time())
    )
    return jwt, user.seed


async def test_logins_wait_while_the_database_is_away(
    broker: Broker, doorkeeper: Doorkeeper
) -> None:
    tenant, device = await broker.provision(), uuid4()
    options = doorkeeper.admit_device(tenant, device, "right")
    attempts = 0

    def judge(logins: Sequence[Login]) -> Sequence[Verdict]:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise OperationalError("away")
        return doorkeeper.judge(logins)

    async with running_callout(broker, doorkeeper, judge=judge):
        await log_in(broker, options)
    assert attempts == 2


async def test_several_share_the_logins_and_one_that_stops_leaves_none_unanswered(
    broker: Broker,
) -> None:
    tenant = await broker.provision()
    both = [Doorkeeper(), Doorkeeper()]
    device = uuid4()
    options, _ = [each.admit_device(tenant, device, "right") for each in both]
    async with running_callout(broker, both[0]):
        async with running_callout(broker, both[1]):
            storm = [asyncio.create_task(log_in(broker, options)) for _ in range(40)]
            assert await eventually(lambda: all(each.asked for each in both))
        await asyncio.gather(*storm)
        await log_in(broker, options)
    assert sum(len(each.asked) for each in both) == 41
