"""Streams and consumers against their declarations, by the commands, on a real broker."""

import io
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, StreamConfig
from pytest_django.fixtures import Settings

from natsbridge.client.login import connect_as
from natsbridge.jetstream.declarations import ACK_WAIT
from natsbridge.protocol.subjects import tenant_stream_name
from tenants.broker.accounts import Purpose, key_pair
from tenants.broker.logins import (
    inspector_login,
    platform_login,
    provisioner_login,
    recreating_login,
    stream_maker_login,
)
from tenants.models import Tenant
from tests.support.system import System


def init(*options: str) -> list[str]:
    out = io.StringIO()
    call_command("jetstream_init", *options, stdout=out, stderr=io.StringIO())
    return out.getvalue().splitlines()


def differences() -> list[str]:
    """What jetstream_verify names; empty when it is content."""
    out = io.StringIO()
    try:
        call_command("jetstream_verify", stdout=out, stderr=io.StringIO())
    except CommandError:  # so it exits with 1
        assert out.getvalue()
    return out.getvalue().splitlines()


def by_hand(system: System, change: Any) -> None:
    system.as_platform_owner(change)


def test_all_that_is_in_use_is_made_once_and_then_found_right(
    system: System, tenant_a: Tenant
) -> None:
    missing = differences()
    assert "stream INGEST does not exist" in missing
    assert f"stream {tenant_stream_name(tenant_a.pk)} does not exist" in missing
    made = init()
    for name in ("INGEST", "LATEST", "BROKER", "DLQ"):
        assert f"stream {name} created" in made
    assert f"tenant Acme: stream {tenant_stream_name(tenant_a.pk)} created" in made
    assert differences() == []
    assert init() == []


def test_a_consumer_that_was_changed_by_hand_is_named_and_mended(system: System) -> None:
    init()

    async def change_it(js: JetStreamContext) -> None:
        found = (await js.consumer_info("INGEST", "ingest-writer")).config
        await js.add_consumer("INGEST", found.evolve(ack_wait=77.0, max_ack_pending=5))

    by_hand(system, change_it)
    found = [
        f"consumer ingest-writer of INGEST: ack_wait is 77.0, declared {ACK_WAIT}",
        "consumer ingest-writer of INGEST: max_ack_pending is 5, declared 100000",
    ]
    assert differences() == found
    assert init() == found
    assert differences() == []


def test_what_is_missing_and_what_nobody_declared_is_named(
    system: System, tenant_a: Tenant
) -> None:
    init()

    async def change_them(js: JetStreamContext) -> None:
        await js.delete_consumer("LATEST", "latest-writer")
        await js.add_consumer("DLQ", ConsumerConfig(durable_name="mine", name="mine"))
        await js.add_stream(StreamConfig(name="EXTRA", subjects=["extra"]))

    by_hand(system, change_them)
    name, login = tenant_stream_name(tenant_a.pk), provisioner_login(tenant_a)

    async def change_the_tenants() -> None:
        async with connect_as(login, "by hand") as connection:
            extra = ConsumerConfig(durable_name="mine", name="mine")
            await connection.client.jetstream().add_consumer(name, extra)

    system.thread.run(change_the_tenants())
    tenants = f"{tenant_a.pk}:{name}/mine"
    order = "is not declared: manage.py jetstream_init --remove"
    extra = [
        f"stream EXTRA {order} EXTRA",
        f"consumer mine of DLQ {order} DLQ/mine",
        f"consumer mine of {name} of tenant Acme {order} {tenants}",
    ]
    found = differences()
    assert sorted(found) == sorted(["consumer latest-writer of LATEST does not exist", *extra])
    assert init() == ["consumer latest-writer of LATEST created"]
    assert sorted(differences()) == sorted(extra), "left alone: it may be somebody's"
    removed = init("--remove", "EXTRA", "--remove", "DLQ/mine", "--remove", tenants)
    assert removed == [
        "stream EXTRA removed, with 0 messages",
        "consumer mine of DLQ removed, with 0 messages",
        f"consumer mine of {name} of tenant Acme removed, with 0 messages",
    ]
    assert differences() == []


def test_an_undeclared_stream_goes_with_its_messages_only_where_told_so(system: System) -> None:
    init()

    async def make_it(js: JetStreamContext) -> None:
        await js.add_stream(StreamConfig(name="EXTRA", subjects=["extra"]))
        await js.add_consumer("EXTRA", ConsumerConfig(durable_name="mine", name="mine"))
        await js.publish("extra", b"somebody's")

    by_hand(system, make_it)
    assert differences() == [
        "stream EXTRA is not declared: manage.py jetstream_init --remove EXTRA --with-messages "
        "(it holds 1 messages)"
    ]
    with pytest.raises(CommandError, match="EXTRA holds 1 messages"):
        init("--remove", "EXTRA")
    assert differences()
    assert init("--remove", "EXTRA", "--with-messages") == ["stream EXTRA removed, with 1 messages"]
    assert differences() == []


def test_what_is_declared_is_never_removed(system: System, tenant_a: Tenant) -> None:
    init()
    stream = tenant_stream_name(tenant_a.pk)
    for name in ("INGEST", "DLQ/dead-letter-mirror", f"{tenant_a.pk}:{stream}", stream, "*", ">"):
        with pytest.raises(CommandError, match="What is declared is never removed"):
            init("--remove", name, "--with-messages")
    assert differences() == []


def test_init_says_what_nobody_declared(system: System) -> None:
    async def make_it(js: JetStreamContext) -> None:
        await js.add_stream(StreamConfig(name="EXTRA", subjects=["extra"]))

    by_hand(system, make_it)
    said = io.StringIO()
    call_command("jetstream_init", stdout=io.StringIO(), stderr=said)
    assert "not declared, and left alone: stream EXTRA (--remove EXTRA)" in said.getvalue()


def test_a_change_that_would_lose_messages_is_refused_unless_told_to_recreate(
    system: System, settings: Settings
) -> None:
    init()
    settings.BROKER_MAX_BYTES = 1024**2
    account = key_pair(Purpose.PLATFORM).public

    async def fill(js: JetStreamContext) -> None:
        for _ in range(3):
            await js.publish(f"broker.{account}.connect", b"x" * 500_000)

    by_hand(system, fill)
    with pytest.raises(CommandError, match="Not all is as declared"):
        init()
    made = init("--recreate", "BROKER")
    assert made[:2] == ["stream BROKER deleted", "stream BROKER created"]
    assert differences() == []


def test_a_consumer_and_a_tenants_stream_are_recreated_by_name(
    system: System, tenant_a: Tenant
) -> None:
    init()
    name = tenant_stream_name(tenant_a.pk)
    assert init("--recreate", "ingest-writer", "--recreate", name) == [
        "consumer ingest-writer of INGEST deleted",
        "consumer ingest-writer of INGEST created",
        f"stream {name} deleted",
        f"stream {name} created",
    ]
    with pytest.raises(CommandError, match='no declared stream or consumer "INGESTED"'):
        init("--recreate", "INGESTED")


def test_only_who_recreates_a_stream_may_delete_it_and_no_other(system: System) -> None:
    init()
    logins = {
        "subscriber": platform_login(),
        "inspector": inspector_login(),
        "maker": stream_maker_login(),
        "recreates DLQ": recreating_login("DLQ", None),
        "recreates its consumer": recreating_login("DLQ", "dead-letter-mirror"),
    }
    may = {
        who: [order for order in ORDERS if system.may_publish(login, order)]
        for who, login in logins.items()
    }
    assert may == {
        "subscriber": [],
        "inspector": [],
        "maker": [],
        "recreates DLQ": ["$JS.API.STREAM.DELETE.DLQ"],
        "recreates its consumer": ["$JS.API.CONSUMER.DELETE.DLQ.dead-letter-mirror"],
    }


ORDERS = (
    "$JS.API.STREAM.DELETE.INGEST",
    "$JS.API.STREAM.PURGE.INGEST",
    "$JS.API.STREAM.DELETE.DLQ",
    "$JS.API.CONSUMER.DELETE.DLQ.dead-letter-mirror",
    "$JS.API.STREAM.MSG.DELETE.DLQ",
)
