import asyncio
import shutil
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import nats.errors
import pytest

from natsbridge.client import system_account
from natsbridge.errors import BrokerUnavailable, ClaimsRefused, InvalidClaims
from natsbridge.identity import claims, nkeys
from natsbridge.identity.claims import AccountLimits
from natsbridge.identity.jwt import decode_jwt, signed
from natsbridge.jetstream import declarations, streams
from natsbridge.protocol import subjects
from natsbridge.server.config import render
from tests.plugin import allot_port
from tests.support.broker import Broker, StartNats, Tenant, eventually


async def test_pushed_claims_are_in_force_at_once_and_can_be_looked_up(broker: Broker) -> None:
    tenant = await broker.provision()
    system = await broker.connect_system()
    unknown = nkeys.generate("account").public
    assert await system_account.lookup(system.client, unknown) is None
    jwt = broker.account_jwt(tenant, limits=AccountLimits(connections=7))
    await system_account.push(system.client, jwt)
    assert await system_account.lookup(system.client, tenant.account.public) == jwt
    await system_account.push(system.client, jwt)
    assert system.refusals == []


async def test_claims_that_the_server_refuses_are_reported_in_its_words(broker: Broker) -> None:
    tenant = await broker.provision()
    system = await broker.connect_system()
    before = await system_account.lookup(system.client, tenant.account.public)
    user = nkeys.generate("user")
    no_account = claims.account_user_jwt(
        tenant.account, name="x", user_public=user.public, issued_at=1
    )
    with pytest.raises(ClaimsRefused, match="jwt update resulted in error"):
        await system_account.push(system.client, no_account)
    nats_claims = decode_jwt(broker.account_jwt(tenant))["nats"]
    nats_claims["imports"][0]["account"] = ""
    faulty = signed(broker.operator, tenant.account.public, nats_claims, name="faulty", issued_at=2)
    with pytest.raises(ClaimsRefused, match="jwt"):
        await system_account.push(system.client, faulty)
    assert await system_account.lookup(system.client, tenant.account.public) == before


async def test_text_that_is_not_a_jwt_is_not_even_sent(broker: Broker) -> None:
    system = await broker.connect_system()
    with pytest.raises(InvalidClaims):
        await system_account.push(system.client, "garbage")


async def test_a_revoked_user_is_disconnected_and_stays_out(broker: Broker) -> None:
    tenant, device = await broker.provision(), uuid4()
    jwt, seed = broker.device_credentials(tenant, device)
    revoked = await broker.connect(jwt, seed)
    colleague = await broker.connect_device(tenant, uuid4())
    user = decode_jwt(jwt)
    await broker.push(tenant, revocations={user["sub"]: user["iat"]})
    assert await eventually(lambda: revoked.client.is_closed)
    with pytest.raises(nats.errors.Error, match="Authorization Violation"):
        await broker.connect(jwt, seed)
    assert colleague.client.is_connected


async def test_all_of_an_accounts_users_can_be_revoked_at_once(broker: Broker) -> None:
    tenant, device = await broker.provision(), uuid4()
    jwt, seed = broker.device_credentials(tenant, device)
    revoked = await broker.connect(jwt, seed)
    issued_at = decode_jwt(jwt)["iat"]
    await broker.push(tenant, revocations={"*": issued_at})
    assert await eventually(lambda: revoked.client.is_closed)
    with pytest.raises(nats.errors.Error, match="Authorization Violation"):
        await broker.connect(jwt, seed)
    later = claims.device_user_jwt(
        tenant.device_key,
        account=tenant.account.public,
        device=device,
        user_public=nkeys.public_of(seed),
        issued_at=issued_at + 1,
        expires_at=None,
    )
    assert (await broker.connect(later, seed)).client.is_connected


async def test_a_connection_can_be_kicked_by_server_and_number(broker: Broker) -> None:
    tenant, device = await broker.provision(), uuid4()
    victim = await broker.connect_device(tenant, device)
    colleague = await broker.connect_device(tenant, device)
    system = await broker.connect_system()
    number = victim.client.client_id
    assert number is not None
    server = broker.server_id
    await system_account.kick(system.client, server, number)
    assert await eventually(lambda: victim.client.is_closed)
    assert colleague.client.is_connected
    with pytest.raises(ClaimsRefused, match="no such client"):
        await system_account.kick(system.client, server, number)
    with pytest.raises(BrokerUnavailable):
        await system_account.kick(system.client, "NOSUCHSERVER", 1)


async def test_what_one_connection_hears_is_asked_by_server_and_number(broker: Broker) -> None:
    tenant, device = await broker.provision(), uuid4()
    listener = await broker.connect_device(tenant, device)
    subject = subjects.device_subject(tenant.uuid, device, "command")
    await listener.client.subscribe(subject)
    await listener.client.flush()
    system = await broker.connect_system()
    number = listener.client.client_id
    assert number is not None
    heard = await system_account.subscriptions(system.client, broker.server_id, number)
    assert heard is not None
    assert subject in heard
    await listener.client.close()
    for _ in range(1000):
        heard = await system_account.subscriptions(system.client, broker.server_id, number)
        if heard is None:
            break
        await asyncio.sleep(0.01)
    assert heard is None
    with pytest.raises(BrokerUnavailable):
        await system_account.subscriptions(system.client, "NOSUCHSERVER", number)


async def test_without_a_server_or_outside_the_system_account_nothing_is_pushed(
    broker: Broker,
) -> None:
    tenant = await broker.provision()
    jwt = broker.account_jwt(tenant)
    outsider = await broker.connect_as(tenant.account)
    with pytest.raises(BrokerUnavailable):
        await system_account.push(outsider.client, jwt)
    system = await broker.connect_system()
    await system.client.close()
    for attempt in (
        system_account.push(system.client, jwt),
        system_account.lookup(system.client, tenant.account.public),
    ):
        with pytest.raises(BrokerUnavailable):
            await attempt


async def test_the_systems_user_can_do_only_what_it_is_for(broker: Broker) -> None:
    system = await broker.connect_system()
    for subject in (
        "$SYS.REQ.SERVER.PING.VARZ",
        f"$SYS.REQ.SERVER.{broker.server_id}.RELOAD",
        "$SYS.REQ.USER.AUTH",
        "anything",
    ):
        assert not await system.may_publish(subject), subject
    for subject in (">", "$SYS.>", "$SYS.ACCOUNT.>", "$SYS.REQ.>"):
        assert not await system.may_subscribe(subject), subject
    assert await system.may_subscribe("$SYS.ACCOUNT.*.CONNECT")
    tenant, device = await broker.provision(), uuid4()
    await broker.connect_device(tenant, device)
    key = tenant.account.public
    assert await eventually(
        lambda: f"$SYS.ACCOUNT.{key}.CONNECT" in [message.subject for message in system.heard]
    )


async def test_the_platform_may_import_who_connects_and_disconnects(own_broker: Broker) -> None:
    """What the system account exports is enough for the platform to keep presence in a stream."""
    nats_claims = decode_jwt(own_broker.config.preload[own_broker.platform.public])["nats"]
    nats_claims["imports"] = [
        {
            "name": event.lower(),
            "account": own_broker.system.public,
            "subject": f"$SYS.ACCOUNT.*.{event}",
            "local_subject": f"broker.$1.{event.lower()}",
            "type": "stream",
        }
        for event in ("CONNECT", "DISCONNECT")
    ]
    jwt = signed(
        own_broker.operator,
        own_broker.platform.public,
        nats_claims,
        name="WEGWEISER",
        issued_at=2**31,
    )
    system = await own_broker.connect_system()
    await system_account.push(system.client, jwt)
    platform = await own_broker.connect_as(own_broker.platform)
    await platform.listen("broker.>")
    tenant = await own_broker.provision()
    device = await own_broker.connect_device(tenant, uuid4())
    await device.client.close()
    key = tenant.account.public
    expected = {f"broker.{key}.connect", f"broker.{key}.disconnect"}
    assert await eventually(lambda: expected <= {message.subject for message in platform.heard})


async def test_a_push_reaches_every_server_of_a_cluster(
    start_nats: StartNats, tmp_path: Path
) -> None:
    routes = [allot_port(), allot_port()]
    texts: list[str] = []
    broker = Broker(lambda text, **ports: texts.append(text), tmp_path / "one")
    other = replace(
        broker.config,
        server_name="other",
        port=allot_port(),
        monitor_port=allot_port(),
        store_dir=tmp_path / "two" / "jetstream",
        resolver_dir=tmp_path / "two" / "accounts",
    )
    # Neither is healthy without the other.
    _, second = await asyncio.gather(
        *(
            asyncio.to_thread(
                start_nats,
                text + cluster(own, routes),
                port=config.port,
                monitor_port=config.monitor_port,
            )
            for text, config, own in (
                (texts[0], broker.config, routes[0]),
                (render(other), other, routes[1]),
            )
        )
    )
    here = await broker.connect_system()
    there = await broker.connect_as(broker.system, servers=second.url)
    tenant = Tenant.generate(uuid4())
    for connections in range(20):
        jwt = await broker.push(tenant, limits=AccountLimits(connections=connections))
        assert await system_account.lookup(there.client, tenant.account.public) == jwt
    assert await system_account.lookup(there.client, nkeys.generate("account").public) is None

    # A server that cannot keep the claims says so, and the caller that pushed must hear it.
    shutil.rmtree(other.resolver_dir)
    other.resolver_dir.touch()
    with pytest.raises(ClaimsRefused):
        await broker.push(tenant)
    # Killed, it says nothing to the others, who soon know all the same.
    second.child.process.kill()
    second.stop()
    jwt = await broker.push(tenant)
    assert await system_account.lookup(here.client, tenant.account.public) == jwt
    assert len(await system_account.server_ids(here.client)) == 1
    await broker.disconnect()


def cluster(own: int, routes: list[int]) -> str:
    urls = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes)
    return f'cluster {{ name: "test", listen: "127.0.0.1:{own}", routes: [{urls}] }}\n'


async def test_all_connections_of_an_account_are_listed_over_several_pages(broker: Broker) -> None:
    tenant, other = await broker.provision(), await broker.provision()
    device = uuid4()
    peers = [await broker.connect_device(tenant, device) for _ in range(5)]
    await broker.connect_device(other, device)
    system = await broker.connect_system()
    listed = await system_account.connections(system.client, tenant.account.public, page=2)
    assert {each.server_id for each in listed} == {broker.server_id}
    assert {each.number for each in listed} >= {peer.client.client_id for peer in peers}
    assert all(each.user.startswith("U") for each in listed)


async def test_the_streams_of_an_account_are_seen_without_a_login_to_it(broker: Broker) -> None:
    tenant = await broker.provision()
    system = await broker.connect_system()
    declared = declarations.tenant_stream(tenant.uuid)
    found = await system_account.streams(system.client, tenant.account.public)
    assert streams.compare(found[declared.name], declared) == []
    assert await system_account.streams(system.client, nkeys.generate("account").public) == {}
    smaller = declarations.tenant_stream(tenant.uuid, max_bytes=1024**2)
    assert "max_bytes" in streams.compare(found[declared.name], smaller)[0]
    assert "does not exist" in streams.compare(None, declared)[0]


async def test_what_a_retiring_key_has_signed_works_until_the_key_is_gone(broker: Broker) -> None:
    tenant, device = await broker.provision(), uuid4()
    jwt, seed = broker.device_credentials(tenant, device)
    peer = await broker.connect(jwt, seed)
    old, tenant.device_key = tenant.device_key, nkeys.generate("account")
    await broker.push(tenant, retiring_device_keys=(old.public,))
    late = await broker.connect(jwt, seed)
    assert peer.client.is_connected
    await broker.push(tenant)
    assert await eventually(lambda: peer.client.is_closed and late.client.is_closed)


async def test_everybody_is_listed_over_several_pages_without_a_jwt(broker: Broker) -> None:
    tenant = await broker.provision()
    devices = [uuid4() for _ in range(8)]
    for device in devices:
        await broker.connect_device(tenant, device)
    system = await broker.connect_system()
    parts = await system_account.all_connections(system.client, page=3)
    named = {each.user.name: each for part in parts for each in part.connections}
    assert {str(device) for device in devices} <= named.keys()
    assert {named[str(device)].user.account for device in devices} == {tenant.account.public}
    assert {part.server for part in parts} == {broker.server_id}
    assert "eyJ" not in repr(parts)
