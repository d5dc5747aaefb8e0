"""What somebody with a key or a credential might forge, and where it gets them."""

import asyncio
import base64
import json
from pathlib import Path
from uuid import uuid4

import nats.errors
import pytest

from natsbridge.client import system_account
from natsbridge.identity import claims, nkeys
from natsbridge.identity.jwt import decode_jwt, signed
from natsbridge.jetstream import declarations
from natsbridge.protocol import subjects
from natsbridge.protocol.subjects import command_export, device_subject
from tests.plugin import allot_port
from tests.support.broker import SILENCE, Broker, StartNats, eventually, metric_subject
from tests.support.waiting import SAFETY_NET


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
    nats_claims = decode_jwt(broker.account_jwt(thief))["nats"]
    for each in nats_claims["imports"]:
        each["subject"] = each["subject"].replace(thief.account.public, victim.account.public)
    forged = signed(
        broker.operator, thief.account.public, nats_claims, name="forged", issued_at=2**31
    )
    system = await broker.connect_system()
    await system_account.push(system.client, forged)

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


async def test_a_user_named_by_a_wildcard_would_be_every_device(broker: Broker) -> None:
    """Why the name is checked before it is signed: the server would let this one through."""
    tenant, sibling = await broker.provision(), uuid4()
    user = nkeys.generate("user")
    nats_claims = {"type": "user", "issuer_account": tenant.account.public, "pub": {}, "sub": {}}
    jwt = signed(tenant.device_key, user.public, nats_claims, name="*", issued_at=1)
    peer = await broker.connect(jwt, user.seed)
    assert await peer.may_publish(device_subject(tenant.uuid, sibling, "heartbeat"))


async def test_a_user_that_brings_its_own_permissions_is_not_admitted(broker: Broker) -> None:
    tenant, user = await broker.provision(), nkeys.generate("user")
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
        nkeys.generate("user"),
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
    subject = device_subject(tenant.uuid, device, "response")
    for _ in range(10):
        await peer.publish(subject)
    # The PubAck that is sent to the reply has a `seq`, which a purge would understand.
    await peer.publish(subject, reply=f"$JS.API.STREAM.{api}.{stream}")
    await peer.publish(subject, reply=f"$JS.API.STREAM.{api}.{declarations.INGEST}")
    owner = await broker.connect_as(tenant.account)
    platform = await broker.connect_as(broker.platform)

    async def messages() -> tuple[int, int]:
        own = await owner.jetstream.stream_info(stream)
        ingest = await platform.jetstream.stream_info(declarations.INGEST)
        return own.state.messages, ingest.state.messages

    async def all_are_stored() -> bool:
        return await messages() == (12, 12)

    await eventually(all_are_stored)
    await asyncio.sleep(SILENCE)
    assert await messages() == (12, 12)


async def test_no_credential_of_a_tenant_opens_a_leaf_node(
    start_nats: StartNats, tmp_path: Path
) -> None:
    port = allot_port()
    listener = f'leafnodes {{ host: "127.0.0.1", port: {port} }}'
    own_broker = Broker(start_nats, tmp_path / "broker", additional=listener)
    tenant = await own_broker.provision()
    user = nkeys.generate("user")
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
    signature = base64.urlsafe_b64encode(nkeys.sign(seed, info["nonce"].encode())).rstrip(b"=")
    login = {
        "jwt": jwt,
        "sig": signature.decode(),
        "name": "leaf",
        "server_id": nkeys.generate("account").public,
        "version": "2.15.1",
        "headers": True,
    }
    writer.write(b"CONNECT " + json.dumps(login).encode() + b"\r\nPING\r\n")
    answer = await asyncio.wait_for(reader.read(), SAFETY_NET)
    writer.close()
    return answer.decode()
