from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from nats.js.api import ConsumerConfig, RetentionPolicy, StorageType, StreamConfig

from natsbridge.errors import StreamRefused
from natsbridge.identity.claims import AccountLimits
from natsbridge.identity.permissions import PROVISIONER_PERMISSIONS
from natsbridge.jetstream import declarations
from natsbridge.jetstream.declarations import TENANT_PER_SUBJECT, StreamDeclaration
from natsbridge.jetstream.streams import ensure, verify
from natsbridge.protocol.kinds import DURABLE_TYPES
from natsbridge.protocol.subjects import INGEST_PATTERNS, device_subject
from tests.support.broker import Broker


def declared(**changes: Any) -> StreamDeclaration:
    """A small stream of this test's own."""
    name = uuid4().hex
    config = StreamConfig(
        name=name,
        subjects=[f"{name}.>"],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        max_msgs=100,
        max_bytes=100_000,
        max_age=3600.0,
        max_msgs_per_subject=50,
        num_replicas=1,
    )
    return StreamDeclaration(
        config.evolve(**changes), (ConsumerConfig(durable_name="reader", ack_wait=30.0),)
    )


def changed(declaration: StreamDeclaration, **changes: Any) -> StreamDeclaration:
    return replace(declaration, config=declaration.config.evolve(**changes))


async def test_the_platforms_streams_are_made_once_and_then_found_right(
    own_broker: Broker,
) -> None:
    subscriber = await own_broker.connect_subscriber()
    js = subscriber.jetstream
    ingest, *_ = declarations.platform_streams(ingest_max_bytes=10 * 1024**2)
    assert await verify(js, ingest) == ["stream INGEST does not exist"]
    assert await ensure(js, ingest) == [
        "stream INGEST created",
        "consumer ingest-writer of INGEST created",
    ]
    assert await ensure(js, ingest) == []
    assert await verify(js, ingest) == []
    config = (await js.stream_info("INGEST")).config
    assert config.subjects == list(INGEST_PATTERNS)
    assert config.retention == "workqueue"
    assert config.discard == "new"
    assert config.discard_new_per_subject is True
    assert config.max_msgs_per_subject == 10_500
    assert config.max_msg_size == 320 * 1024
    assert config.max_age == 0
    assert config.max_bytes == 10 * 1024**2
    assert config.duplicate_window == 0.1
    consumer = await js.consumer_info("INGEST", "ingest-writer")
    assert consumer.config.max_deliver == -1
    assert subscriber.refusals == []


async def test_a_tenants_stream_is_made_by_a_user_who_can_do_nothing_else(broker: Broker) -> None:
    tenant = await broker.provision()
    provisioner = await broker.connect_as(tenant.account, PROVISIONER_PERMISSIONS)
    stream = declarations.tenant_stream(tenant.uuid)
    assert await verify(provisioner.jetstream, stream) == []
    assert await ensure(provisioner.jetstream, stream) == []
    assert provisioner.refusals == []
    for api in ("DELETE", "PURGE", "MSG.GET", "MSG.DELETE", "SNAPSHOT"):
        assert not await provisioner.may_publish(f"$JS.API.STREAM.{api}.{stream.name}")
    assert not await provisioner.may_publish(f"tenant.{tenant.uuid}.device.{uuid4()}.command")
    assert not await provisioner.may_subscribe("tenant.>")


async def test_a_tenants_stream_fits_into_the_accounts_limit() -> None:
    config = declarations.tenant_stream(uuid4()).config
    assert config.max_bytes is not None
    assert config.max_bytes < AccountLimits().disk_storage


async def test_a_device_that_floods_leaves_its_siblings_messages_in_the_tenants_stream(
    broker: Broker,
) -> None:
    tenant, flooding, sibling = await broker.provision(), uuid4(), uuid4()
    owner = await broker.connect_as(tenant.account)
    name = declarations.tenant_stream(tenant.uuid).name
    quiet = await broker.connect_device(tenant, sibling)
    for kind in DURABLE_TYPES:
        await quiet.publish(device_subject(tenant.uuid, sibling, kind), b'{"said": "once"}')
    loud = await broker.connect_device(tenant, flooding)
    for number in range(12_000):
        kind = DURABLE_TYPES[number % len(DURABLE_TYPES)]
        await loud.client.publish(device_subject(tenant.uuid, flooding, kind), b"{}")
    await loud.settle()
    for _ in range(40):
        await loud.client.publish(
            device_subject(tenant.uuid, flooding, "response"), bytes(900 * 1024)
        )
    await loud.settle()
    kept = await owner.jetstream.stream_info(name, subjects_filter=">")
    subjects = kept.state.subjects or {}
    theirs = f"tenant.{tenant.uuid}.device.{sibling}."
    assert sum(subject.startswith(theirs) for subject in subjects) == len(DURABLE_TYPES)
    assert kept.state.messages <= len(DURABLE_TYPES) * (1 + TENANT_PER_SUBJECT)
    assert loud.heard == []


async def test_one_device_fills_neither_the_number_nor_the_bytes_of_a_tenants_stream() -> None:
    for room in (768 * 1024, 24 * 1024**2, 2**40):
        config = declarations.tenant_stream(uuid4(), max_bytes=room).config
        messages = len(DURABLE_TYPES) * (config.max_msgs_per_subject or 0)
        assert 0 < messages <= (config.max_msgs or 0) // 2
        assert (config.max_msg_size or 0) >= 4 * 1024
        assert 0 < messages * (config.max_msg_size or 0) <= room * 3 // 4


async def test_an_existing_tenants_stream_is_brought_up_to_date_though_it_holds_messages(
    broker: Broker,
) -> None:
    tenant, device = await broker.provision(), uuid4()
    declared = declarations.tenant_stream(tenant.uuid)
    older = replace(
        declared, config=declared.config.evolve(max_msgs_per_subject=-1, max_msg_size=-1)
    )
    owner = await broker.connect_as(tenant.account)
    await owner.jetstream.update_stream(older.config)
    peer = await broker.connect_device(tenant, device)
    for _ in range(2 * TENANT_PER_SUBJECT):
        await peer.client.publish(device_subject(tenant.uuid, device, "heartbeat"), b"{}")
    await peer.settle()
    changes = await ensure(owner.jetstream, declared)
    assert len(changes) == 2
    assert await verify(owner.jetstream, declared) == []
    state = (await owner.jetstream.stream_info(declared.name)).state
    assert state.messages == TENANT_PER_SUBJECT
    assert state.last_seq == 2 * TENANT_PER_SUBJECT


async def test_a_stream_that_the_account_may_not_have_is_refused_with_the_reason(
    broker: Broker,
) -> None:
    tenant = await broker.provision()
    provisioner = await broker.connect_as(tenant.account, PROVISIONER_PERMISSIONS)
    with pytest.raises(StreamRefused, match="maximum number of streams reached"):
        await ensure(provisioner.jetstream, declared())


async def test_drift_is_named_and_then_repaired(broker: Broker) -> None:
    platform = await broker.connect_as(broker.platform)
    js, wanted = platform.jetstream, declared()
    await ensure(js, wanted)
    await js.update_stream(wanted.config, max_msgs=7, max_msgs_per_subject=3)
    await js.add_consumer(wanted.name, ConsumerConfig(durable_name="reader", ack_wait=5.0))
    found = [
        f"stream {wanted.name}: max_msgs is 7, declared 100",
        f"stream {wanted.name}: max_msgs_per_subject is 3, declared 50",
        f"consumer reader of {wanted.name}: ack_wait is 5.0, declared 30.0",
    ]
    assert await verify(js, wanted) == found
    assert await ensure(js, wanted) == found
    assert await verify(js, wanted) == []


async def test_a_missing_consumer_is_named_and_then_made(broker: Broker) -> None:
    platform = await broker.connect_as(broker.platform)
    js, wanted = platform.jetstream, declared()
    await ensure(js, wanted)
    await js.delete_consumer(wanted.name, "reader")
    assert await verify(js, wanted) == [f"consumer reader of {wanted.name} does not exist"]
    assert await ensure(js, wanted) == [f"consumer reader of {wanted.name} created"]


async def test_what_is_not_declared_is_left_as_it_is(broker: Broker) -> None:
    platform = await broker.connect_as(broker.platform)
    js, wanted = platform.jetstream, declared()
    await ensure(js, wanted)
    await js.update_stream(wanted.config, description="set by hand", max_msgs=7)
    await ensure(js, wanted)
    info = await js.stream_info(wanted.name)
    assert info.config.description == "set by hand"
    assert info.config.max_msgs == 100


@pytest.mark.parametrize(
    "tighter",
    [
        {"max_msgs": 5},
        {"max_bytes": 100},
        {"max_age": 60.0},
        {"max_msgs_per_subject": 1},
        {"retention": RetentionPolicy.INTEREST},
        {"storage": StorageType.MEMORY},
    ],
)
async def test_a_change_that_would_lose_messages_is_refused_and_loses_none(
    broker: Broker, tighter: dict[str, Any]
) -> None:
    platform = await broker.connect_as(broker.platform)
    js, before = platform.jetstream, declared()
    await ensure(js, before)
    for _ in range(10):
        await js.publish(f"{before.name}.x", b"kept")
    after = changed(before, **tighter)
    with pytest.raises(StreamRefused, match=before.name):
        await ensure(js, after)
    assert (await js.stream_info(before.name)).state.messages == 10
    assert await verify(js, before) == []
    assert len(await verify(js, after)) == 1


async def test_a_stream_may_shrink_as_far_as_it_is_empty(broker: Broker) -> None:
    platform = await broker.connect_as(broker.platform)
    js, before = platform.jetstream, declared()
    await ensure(js, before)
    after = changed(before, max_msgs=50, max_bytes=50_000, max_age=600.0, max_msgs_per_subject=5)
    assert len(await ensure(js, after)) == 4
    for _ in range(5):
        await js.publish(f"{before.name}.x", b"kept")
    smaller = changed(after, max_msgs=20, max_bytes=20_000)
    assert len(await ensure(js, smaller)) == 2
    assert (await js.stream_info(before.name)).state.messages == 5
