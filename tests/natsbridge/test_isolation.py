"""The broker itself keeps devices and tenants apart: every refusal here is the server's."""

import asyncio
import base64
import json
from collections.abc import Awaitable
from pathlib import Path
from uuid import uuid4

import nats.errors
import pytest
from nats.js.errors import NoStreamResponseError

from natsbridge import accounts, claims, streams, subjects
from natsbridge.claims import AccountLimits
from natsbridge.errors import InvalidClaims
from natsbridge.jwt import signed
from natsbridge.subjects import DURABLE_KINDS, command_export, device_subject, metric_subject
from tests.broker import Broker, Peer, StartNats, eventually
from tests.plugin import allot_port

# Long enough for a message that does come; every test that waits it out has proved the way open.
SILENCE = 0.15


async def test_a_device_publishes_each_of_its_kinds_and_is_acknowledged_by_ingest(
    broker: Broker,
) -> None:
    tenant, device = await broker.provision(), uuid4()
    peer = await broker.connect_device(tenant, device)
    for kind in DURABLE_KINDS:
        ack = await peer.jetstream.publish(device_subject(tenant.uuid, device, kind), b"{}")
        assert ack.stream == streams.INGEST
    assert peer.refusals == []


async def test_no_pub_ack_comes_from_the_tenants_own_stream(broker: Broker) -> None:
    tenant, device = await broker.provision(), uuid4()
    peer = await broker.connect_device(tenant, device)
    subject = device_subject(tenant.uuid, device, "heartbeat")
    acks = await asyncio.gather(*(peer.jetstream.publish(subject, b"{}") for _ in range(200)))
    assert {ack.stream for ack in acks} == {streams.INGEST}
    owner = await broker.connect_as(tenant.account)
    info = await owner.jetstream.stream_info(subjects.tenant_stream_name(tenant.uuid))
    assert info.state.messages == 200


async def test_without_ingest_a_device_receives_no_pub_ack(own_broker: Broker) -> None:
    tenant, device = await own_broker.provision(), uuid4()
    peer = await own_broker.connect_device(tenant, device)
    with pytest.raises((nats.errors.TimeoutError, NoStreamResponseError)):
        await peer.jetstream.publish(device_subject(tenant.uuid, device, "heartbeat"), timeout=0.5)
    await own_broker.ensure_ingest()
    ack = await peer.jetstream.publish(device_subject(tenant.uuid, device, "heartbeat"))
    assert ack.stream == streams.INGEST


async def test_what_a_device_publishes_arrives_with_its_accounts_key(broker: Broker) -> None:
    tenant, device = await broker.provision(), uuid4()
    platform = await broker.connect_as(broker.platform)
    await platform.listen("ingest.>")
    peer = await broker.connect_device(tenant, device)
    await peer.publish(device_subject(tenant.uuid, device, "status.heartbeat"))
    await peer.publish(metric_subject(device, "cpu_percent"))
    assert await eventually(lambda: len(platform.heard) == 2)
    durable, metric = (message.subject for message in platform.heard)
    account = tenant.account.public
    assert subjects.parse_ingest(durable) == (account, tenant.uuid, device, "heartbeat")
    assert subjects.parse_metric(metric) == (account, device, "cpu_percent")


async def test_a_device_may_publish_nothing_but_its_own_subjects(broker: Broker) -> None:
    tenant, other, device, sibling = await broker.provision(), uuid4(), uuid4(), uuid4()
    peer = await broker.connect_device(tenant, device)
    own_command = device_subject(tenant.uuid, device, "command")
    stream = subjects.tenant_stream_name(tenant.uuid)
    for subject in (
        device_subject(tenant.uuid, sibling, "heartbeat"),
        device_subject(tenant.uuid, sibling, "command"),
        device_subject(other, device, "heartbeat"),
        metric_subject(sibling, "cpu_percent"),
        own_command,
        f"tenant.{tenant.uuid}.device.{device}.anything",
        f"demo.system.{device}",
        f"demo.system.{device}.cpu.percent",
        f"ingest.{tenant.account.public}.tenant.{tenant.uuid}.device.{device}.heartbeat",
        command_export(tenant.account.public, sibling),
        "$JS.API.INFO",
        f"$JS.API.STREAM.INFO.{stream}",
        f"$JS.API.STREAM.DELETE.{stream}",
        f"$JS.API.STREAM.MSG.GET.{stream}",
        f"$JS.API.CONSUMER.CREATE.{stream}",
        "$JS.ACK.INGEST.ingest-writer.1.1.1.1.1",
        "$SYS.REQ.USER.INFO",
        "$SYS.REQ.CLAIMS.LIST",
        f"_INBOX_{sibling}.reply",
        "_INBOX.reply",
    ):
        assert not await peer.may_publish(subject), subject
    assert await peer.may_publish(device_subject(tenant.uuid, device, "heartbeat"))


async def test_a_device_may_subscribe_to_nothing_but_its_commands_and_inbox(
    broker: Broker,
) -> None:
    tenant, device, sibling = await broker.provision(), uuid4(), uuid4()
    peer = await broker.connect_device(tenant, device)
    for subject in (
        ">",
        "*.>",
        "tenant.>",
        f"tenant.{tenant.uuid}.>",
        f"tenant.{tenant.uuid}.device.*.command",
        f"tenant.{tenant.uuid}.device.{device}.>",
        f"tenant.{tenant.uuid}.device.{device}.*",
        device_subject(tenant.uuid, sibling, "command"),
        device_subject(tenant.uuid, sibling, "heartbeat"),
        f"_INBOX_{sibling}.>",
        "_INBOX.>",
        "demo.>",
        "ingest.>",
        "command.>",
        "$SYS.>",
        "$JS.>",
    ):
        assert not await peer.may_subscribe(subject), subject
    assert await peer.may_subscribe(device_subject(tenant.uuid, device, "command"))
    assert await peer.may_subscribe(f"{subjects.device_inbox(device)}.>")


async def test_a_command_reaches_its_device_only_and_does_not_come_back(broker: Broker) -> None:
    tenant, other = await broker.provision(), await broker.provision()
    device, sibling = uuid4(), uuid4()
    right = await broker.connect_device(tenant, device)
    wrong = [
        (await broker.connect_device(tenant, sibling), tenant, sibling),
        (await broker.connect_device(other, device), other, device),
    ]
    for peer, owner, uuid in [(right, tenant, device), *wrong]:
        await peer.listen(device_subject(owner.uuid, uuid, "command"))
    returned = await broker.connect_as(broker.platform)
    await returned.listen("ingest.>")

    subscriber = await broker.connect_subscriber()
    await subscriber.publish(command_export(tenant.account.public, device), b'{"command": "ping"}')

    assert await eventually(lambda: len(right.heard) == 1)
    assert right.heard[0].data == b'{"command": "ping"}'
    await asyncio.sleep(SILENCE)
    assert [peer.heard for peer, _, _ in wrong] == [[], []]
    assert returned.heard == []
    owner = await broker.connect_as(tenant.account)
    stream = subjects.tenant_stream_name(tenant.uuid)
    assert (await owner.jetstream.stream_info(stream)).state.messages == 1


async def test_a_tenants_stream_keeps_what_its_devices_say_and_answers_nobody(
    broker: Broker,
) -> None:
    tenant, device = await broker.provision(), uuid4()
    peer = await broker.connect_device(tenant, device)
    await peer.publish(device_subject(tenant.uuid, device, "heartbeat"), b'{"kept": true}')
    owner = await broker.connect_as(tenant.account)
    stream = subjects.tenant_stream_name(tenant.uuid)
    kept = await owner.jetstream.get_msg(stream, 1)
    assert kept.data == b'{"kept": true}'
    assert (await owner.jetstream.stream_info(stream)).config.no_ack is True


async def test_a_forged_tenant_in_the_subject_goes_nowhere(broker: Broker) -> None:
    """Even the owner of an account's key cannot speak as another tenant to the platform."""
    tenant, victim, device = await broker.provision(), await broker.provision(), uuid4()
    platform = await broker.connect_as(broker.platform)
    await platform.listen("ingest.>")
    neighbour = await broker.connect_as(victim.account)
    await neighbour.listen(">")

    owner = await broker.connect_as(tenant.account)
    for subject in (
        device_subject(victim.uuid, device, "heartbeat"),
        f"ingest.{victim.account.public}.tenant.{victim.uuid}.device.{device}.heartbeat",
        f"ingest.{tenant.account.public}.tenant.{victim.uuid}.device.{device}.heartbeat",
        command_export(victim.account.public, device),
    ):
        assert await owner.may_publish(subject)
    await owner.publish(device_subject(tenant.uuid, device, "heartbeat"))

    assert await eventually(lambda: platform.heard != [])
    await asyncio.sleep(SILENCE)
    heard = [subjects.parse_ingest(message.subject) for message in platform.heard]
    assert heard == [(tenant.account.public, tenant.uuid, device, "heartbeat")]
    assert neighbour.heard == []


async def test_an_import_under_another_accounts_key_opens_no_way(broker: Broker) -> None:
    """The token position of the exports: such claims can be pushed, and are of no use."""
    thief, victim, device = await broker.provision(), await broker.provision(), uuid4()
    nats_claims = claims.decode(broker.account_jwt(thief))["nats"]
    for each in nats_claims["imports"]:
        each["subject"] = each["subject"].replace(thief.account.public, victim.account.public)
    forged = signed(
        broker.operator, thief.account.public, nats_claims, name="forged", issued_at=2**31
    )
    system = await broker.connect_system()
    await accounts.push(system.client, forged)

    platform = await broker.connect_as(broker.platform)
    await platform.listen("ingest.>")
    owner = await broker.connect_as(thief.account)
    await owner.listen(">")
    own_device = await broker.connect_device(victim, device)
    await own_device.listen(device_subject(victim.uuid, device, "command"))

    await owner.publish(device_subject(thief.uuid, device, "heartbeat"), b"forged")
    await owner.publish(metric_subject(device, "uptime"), b"forged")
    await own_device.publish(device_subject(victim.uuid, device, "heartbeat"), b"true")
    await platform.publish(command_export(victim.account.public, device), b"secret")
    assert await eventually(lambda: platform.heard != [] and own_device.heard != [])
    await asyncio.sleep(SILENCE)
    assert [message.data for message in platform.heard] == [b"true"]
    assert b"secret" not in [message.data for message in owner.heard]


def test_a_device_named_by_anything_but_its_uuid_is_not_signed() -> None:
    device_key, account, user = (
        claims.generate("account"),
        claims.generate("account"),
        claims.generate("user"),
    )
    for name in ("*", ">", "a.b", str(uuid4()), "", None):
        with pytest.raises(InvalidClaims):
            claims.device_user_jwt(
                device_key,
                account=account.public,
                device=name,  # type: ignore[arg-type]
                user_public=user.public,
                issued_at=0,
                expires_at=1,
            )


async def test_a_user_named_by_a_wildcard_would_be_every_device(broker: Broker) -> None:
    """Why the name is checked before it is signed: the server would let this one through."""
    tenant, sibling = await broker.provision(), uuid4()
    user = claims.generate("user")
    nats_claims = {"type": "user", "issuer_account": tenant.account.public, "pub": {}, "sub": {}}
    jwt = signed(tenant.device_key, user.public, nats_claims, name="*", issued_at=1)
    peer = await broker.connect(jwt, user.seed)
    assert await peer.may_publish(device_subject(tenant.uuid, sibling, "heartbeat"))


async def test_a_user_that_brings_its_own_permissions_is_not_let_in(broker: Broker) -> None:
    tenant, user = await broker.provision(), claims.generate("user")
    nats_claims = {
        "type": "user",
        "issuer_account": tenant.account.public,
        "pub": {"allow": [">"]},
        "sub": {},
    }
    jwt = signed(tenant.device_key, user.public, nats_claims, name=str(uuid4()), issued_at=1)
    with pytest.raises(nats.errors.Error, match="Authorization Violation"):
        await broker.connect(jwt, user.seed)


async def test_a_device_key_cannot_sign_a_user_of_another_account(broker: Broker) -> None:
    tenant, victim, user = (
        await broker.provision(),
        await broker.provision(),
        claims.generate("user"),
    )
    for account in (victim.account, broker.platform, broker.system):
        jwt = claims.device_user_jwt(
            tenant.device_key,
            account=account.public,
            device=uuid4(),
            user_public=user.public,
            issued_at=1,
            expires_at=2**33,
        )
        with pytest.raises(nats.errors.Error, match="Authorization Violation"):
            await broker.connect(jwt, user.seed)


async def test_the_tenants_credential_reads_its_own_stream(broker: Broker) -> None:
    tenant, other, device = await broker.provision(), await broker.provision(), uuid4()
    peer = await broker.connect_device(tenant, device)
    await peer.publish(device_subject(tenant.uuid, device, "status"), b'{"disk": "full"}')
    credential = await broker.connect_tenant(tenant)
    stream = subjects.tenant_stream_name(tenant.uuid)
    assert (await credential.jetstream.stream_info(stream)).state.messages == 1
    assert (await credential.jetstream.get_msg(stream, 1)).data == b'{"disk": "full"}'
    for subject in (
        "$JS.API.STREAM.LIST",
        f"$JS.API.STREAM.PURGE.{stream}",
        f"$JS.API.STREAM.DELETE.{stream}",
        f"$JS.API.STREAM.UPDATE.{stream}",
        f"$JS.API.CONSUMER.CREATE.{stream}",
        f"$JS.API.DIRECT.GET.{stream}",
        f"$JS.API.STREAM.INFO.{subjects.tenant_stream_name(other.uuid)}",
        f"$JS.API.STREAM.INFO.{streams.INGEST}",
        metric_subject(device, "cpu_percent"),
        "$SYS.REQ.CLAIMS.LIST",
    ):
        assert not await credential.may_publish(subject), subject


async def test_the_tenants_credential_sees_its_own_tenant_and_cannot_command(
    broker: Broker,
) -> None:
    tenant, other, device = await broker.provision(), await broker.provision(), uuid4()
    peer = await broker.connect_device(tenant, device)
    await peer.listen(device_subject(tenant.uuid, device, "command"))
    credential = await broker.connect_tenant(tenant)
    assert await credential.may_subscribe(f"tenant.{tenant.uuid}.>")
    for subject in (">", f"tenant.{other.uuid}.>", subjects.device_inbox(device) + ".>"):
        assert not await credential.may_subscribe(subject), subject
    assert not await credential.may_publish(device_subject(tenant.uuid, device, "command"))
    assert not await credential.may_publish(command_export(tenant.account.public, device))
    assert await credential.may_publish(device_subject(tenant.uuid, device, "status"))
    assert await eventually(lambda: credential.heard != [])
    await asyncio.sleep(SILENCE)
    assert peer.heard == []


async def test_no_reply_subject_turns_a_stored_message_into_a_command(broker: Broker) -> None:
    """The server does not check replies, so what may answer one must not carry foreign words."""
    tenant, device = await broker.provision(), uuid4()
    peer = await broker.connect_device(tenant, device)
    command = device_subject(tenant.uuid, device, "command")
    await peer.listen(command)
    credential = await broker.connect_tenant(tenant)
    forged = b'{"payload": {"command": "restart", "command_id": "forged"}}'
    await credential.publish(device_subject(tenant.uuid, device, "status"), forged, reply=command)
    stream = subjects.tenant_stream_name(tenant.uuid)
    for request, body in (
        (f"$JS.API.STREAM.MSG.GET.{stream}", {"seq": 1}),
        (f"$JS.API.DIRECT.GET.{stream}", {"seq": 1}),
        (f"$JS.API.STREAM.INFO.{stream}", {"subjects_filter": ">"}),
    ):
        await credential.publish(request, json.dumps(body).encode(), reply=command)
    assert await eventually(lambda: len(peer.heard) >= 3)
    await asyncio.sleep(SILENCE)
    bodies = [json.loads(message.data) for message in peer.heard]
    # A PubAck and two answers of the server: no agent finds a command in them.
    assert len(bodies) == 3
    assert not [body for body in bodies if {"payload", "command", "command_id"} & body.keys()]


@pytest.mark.parametrize("api", ["PURGE", "DELETE", "UPDATE"])
async def test_a_reply_subject_in_the_jetstream_api_changes_no_stream(
    broker: Broker, api: str
) -> None:
    tenant, device = await broker.provision(), uuid4()
    peer = await broker.connect_device(tenant, device)
    stream = subjects.tenant_stream_name(tenant.uuid)
    subject = device_subject(tenant.uuid, device, "heartbeat")
    for _ in range(3):
        await peer.publish(subject, b"{}", reply=f"$JS.API.STREAM.{api}.{stream}")
        await peer.publish(subject, b"", reply=f"$JS.API.STREAM.{api}.{streams.INGEST}")
    await asyncio.sleep(SILENCE)
    owner = await broker.connect_as(tenant.account)
    assert (await owner.jetstream.stream_info(stream)).state.messages == 6
    platform = await broker.connect_as(broker.platform)
    assert (await platform.jetstream.stream_info(streams.INGEST)).state.messages == 6


async def test_a_new_tenant_disturbs_nobody_and_needs_no_restart(broker: Broker) -> None:
    tenant, device = await broker.provision(), uuid4()
    peer = await broker.connect_device(tenant, device)
    await peer.listen(device_subject(tenant.uuid, device, "command"))
    subscriber = await broker.connect_subscriber()
    subject = device_subject(tenant.uuid, device, "heartbeat")
    stop = asyncio.Event()

    async def keep_publishing() -> int:
        acknowledged = 0
        while not stop.is_set():
            await peer.jetstream.publish(subject, b"{}")
            acknowledged += 1
        return acknowledged

    publishing = asyncio.create_task(keep_publishing())
    newcomers = [await broker.provision() for _ in range(10)]
    await broker.push(tenant, limits=AccountLimits(connections=50))
    stop.set()
    assert await publishing > 10

    await subscriber.publish(command_export(tenant.account.public, device))
    assert await eventually(lambda: len(peer.heard) == 1)
    assert not peer.client.is_closed
    assert peer.refusals == []
    for newcomer in newcomers:
        first = await broker.connect_device(newcomer, device)
        ack = await first.jetstream.publish(device_subject(newcomer.uuid, device, "heartbeat"))
        assert ack.stream == streams.INGEST


async def test_no_credential_of_a_tenant_opens_a_leaf_node(
    start_nats: StartNats, tmp_path: Path
) -> None:
    port = allot_port()
    listener = f'leafnodes {{ host: "127.0.0.1", port: {port} }}'
    own_broker = Broker(start_nats, tmp_path / "broker", additional=listener)
    tenant = await own_broker.provision()
    user = claims.generate("user")
    unrestricted = claims.account_user_jwt(
        tenant.account, name="owner", user_public=user.public, issued_at=1
    )
    device = own_broker.device_credentials(tenant, uuid4())
    assert "Authorization Violation" in await leaf_node_answer(port, *device)
    assert "maximum account" in await leaf_node_answer(port, unrestricted, user.seed)
    platform_user = claims.account_user_jwt(
        own_broker.system, name="system", user_public=user.public, issued_at=1
    )
    assert "maximum account" in await leaf_node_answer(port, platform_user, user.seed)
    await own_broker.disconnect()


async def leaf_node_answer(port: int, jwt: str, seed: str) -> str:
    """The last words of the server to a leaf node that logs in."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    info = json.loads((await reader.readline()).removeprefix(b"INFO "))
    signature = base64.urlsafe_b64encode(claims.sign(seed, info["nonce"].encode())).rstrip(b"=")
    login = {
        "jwt": jwt,
        "sig": signature.decode(),
        "name": "leaf",
        "server_id": claims.generate("account").public,
        "version": "2.15.1",
        "headers": True,
    }
    writer.write(b"CONNECT " + json.dumps(login).encode() + b"\r\nPING\r\n")
    answer = await asyncio.wait_for(reader.read(), 3)
    writer.close()
    return answer.decode()


async def test_a_flooding_device_is_refused_and_its_neighbour_is_not(broker: Broker) -> None:
    tenant, device, neighbour = await broker.provision(), uuid4(), uuid4()
    flood = await broker.connect_device(tenant, device)
    calm = await broker.connect_device(tenant, neighbour)
    subject = device_subject(tenant.uuid, device, "heartbeat")
    for _ in range(1_000):
        await flood.client.publish(subject, b"{}")
    await flood.client.flush()
    with pytest.raises(nats.js.errors.APIError, match="maximum messages per subject exceeded"):
        await flood.jetstream.publish(subject, b"{}")
    ack = await calm.jetstream.publish(device_subject(tenant.uuid, neighbour, "heartbeat"), b"{}")
    assert ack.stream == streams.INGEST


async def expect_lost(peer: Peer, cause: Awaitable[object]) -> None:
    await cause
    assert await eventually(lambda: peer.client.is_closed)


async def test_a_suspended_tenant_is_disconnected_and_its_neighbours_are_not(
    broker: Broker,
) -> None:
    tenant, other = await broker.provision(), await broker.provision()
    peer = await broker.connect_device(tenant, uuid4())
    calm = await broker.connect_device(other, uuid4())
    await expect_lost(peer, broker.push(tenant, limits=AccountLimits(connections=0)))
    with pytest.raises(nats.errors.Error, match="maximum account active connections"):
        await broker.connect_device(tenant, uuid4())
    assert not calm.client.is_closed
