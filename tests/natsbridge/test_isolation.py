"""The broker itself keeps devices and tenants apart: every refusal here is the server's."""

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from uuid import uuid4

import nats.errors
import pytest
from nats.js.errors import NoStreamResponseError

from natsbridge.identity.claims import AccountLimits
from natsbridge.jetstream import declarations, streams
from natsbridge.jetstream.declarations import INGEST_PER_SUBJECT
from natsbridge.protocol import subjects
from natsbridge.protocol.kinds import DURABLE_TYPES, Transport, message_types
from natsbridge.protocol.subjects import (
    command_export,
    device_subject,
)
from tests.support.broker import SILENCE, Broker, Peer, eventually, metric_subject


async def test_a_device_publishes_each_of_its_kinds_and_is_acknowledged_by_the_platform(
    broker: Broker,
) -> None:
    tenant, device = await broker.provision(), uuid4()
    peer = await broker.connect_device(tenant, device)
    every = message_types(Transport.EVERY)
    for kind in DURABLE_TYPES:
        ack = await peer.jetstream.publish(device_subject(tenant.uuid, device, kind), b"{}")
        assert ack.stream == (declarations.INGEST if kind in every else declarations.LATEST)
    assert peer.refusals == []


async def test_no_pub_ack_comes_from_the_tenants_own_stream(broker: Broker) -> None:
    tenant, device = await broker.provision(), uuid4()
    peer = await broker.connect_device(tenant, device)
    subject = device_subject(tenant.uuid, device, "heartbeat")
    acks = await asyncio.gather(*(peer.jetstream.publish(subject, b"{}") for _ in range(200)))
    assert {ack.stream for ack in acks} == {declarations.LATEST}
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
    assert ack.stream == declarations.LATEST


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
        f"$JS.API.STREAM.INFO.{declarations.INGEST}",
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
    assert await publishing > 0

    await subscriber.publish(command_export(tenant.account.public, device))
    assert await eventually(lambda: len(peer.heard) == 1)
    assert not peer.client.is_closed
    assert peer.refusals == []
    for newcomer in newcomers:
        first = await broker.connect_device(newcomer, device)
        ack = await first.jetstream.publish(device_subject(newcomer.uuid, device, "heartbeat"))
        assert ack.stream == declarations.LATEST


async def test_a_flooding_device_is_refused_and_its_neighbour_is_not(broker: Broker) -> None:
    tenant, device, neighbour = await broker.provision(), uuid4(), uuid4()
    flood = await broker.connect_device(tenant, device)
    calm = await broker.connect_device(tenant, neighbour)
    subject = device_subject(tenant.uuid, device, "response")
    for _ in range(INGEST_PER_SUBJECT):
        await flood.client.publish(subject, b"{}")
    await flood.settle()
    with pytest.raises(nats.js.errors.APIError, match="maximum messages per subject exceeded"):
        await flood.jetstream.publish(subject, b"{}")
    ack = await calm.jetstream.publish(device_subject(tenant.uuid, neighbour, "response"), b"{}")
    assert ack.stream == declarations.INGEST


async def test_a_device_that_floods_in_bytes_leaves_room_for_its_neighbours(
    own_broker: Broker,
) -> None:
    """INGEST as it is declared, but for a thousandth of the room and of the messages."""
    platform = await own_broker.connect_as(own_broker.platform)
    ingest, latest, *_ = declarations.platform_streams()
    small = ingest.config.evolve(
        max_bytes=ingest.config.max_bytes // 1000,
        max_msgs_per_subject=INGEST_PER_SUBJECT // 1000,
    )
    ingest = replace(ingest, config=small)
    for declaration in (ingest, latest):
        await streams.ensure(platform.jetstream, declaration)
    tenant, device, neighbour = await own_broker.provision(), uuid4(), uuid4()
    flood = await own_broker.connect_device(tenant, device)
    calm = await own_broker.connect_device(tenant, neighbour)
    largest, refused = b"x" * (ingest.config.max_msg_size - 200), 0
    for kind in DURABLE_TYPES:
        subject = device_subject(tenant.uuid, device, kind)
        for _ in range(20):
            try:
                await flood.jetstream.publish(subject, largest)
            except nats.js.errors.APIError:
                refused += 1
    assert refused == 2 * (20 - ingest.config.max_msgs_per_subject)
    assert not flood.client.is_closed
    for kind in DURABLE_TYPES:
        await calm.jetstream.publish(device_subject(tenant.uuid, neighbour, kind), largest)


async def test_a_message_that_is_too_large_is_refused_with_a_number_and_nobody_is_cut_off(
    broker: Broker,
) -> None:
    tenant, device = await broker.provision(), uuid4()
    peer = await broker.connect_device(tenant, device)
    with pytest.raises(nats.js.errors.APIError) as refusal:
        await peer.jetstream.publish(
            device_subject(tenant.uuid, device, "response"), b"x" * 327_681
        )
    assert refusal.value.err_code == 10054  # what the agent looks for
    assert not peer.client.is_closed


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
