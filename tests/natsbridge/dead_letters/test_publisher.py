"""Dead letters on a real broker: stored there first, then removed from where they were."""

from collections import Counter
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from natsbridge.client.connection import Connection
from natsbridge.dead_letters.publisher import DeadLetterPublisher, Sample
from natsbridge.jetstream import declarations
from natsbridge.postgres.wakeups import Wakeups
from natsbridge.protocol import dead_letter
from natsbridge.protocol.envelope import RawMessage
from natsbridge.registry import Rejection
from natsbridge.runtime import Runtime
from tests.support.broker import Broker

ACCOUNT = "A" * 56


async def publisher_to(broker: Broker, **options: Any) -> DeadLetterPublisher:
    peer = await broker.connect_subscriber()
    connection = cast("Connection", SimpleNamespace(client=peer.client))
    runtime = Runtime(connection, Wakeups(()), "test", Counter())
    return DeadLetterPublisher(runtime, "ingest", stream="INGEST", **options)


def rejection(sequence: int = 1, body: bytes = b"{", account: str = ACCOUNT) -> Rejection:
    subject = f"ingest.{account}.tenant.x"
    raw = RawMessage(subject, body, {"Nats-Rollup": "all"}, datetime.now(UTC), 1, sequence)
    return Rejection(raw, "malformed_json", "why")


async def published(broker: Broker) -> int:
    platform = await broker.connect_as(broker.platform)
    return (await platform.jetstream.stream_info(declarations.DLQ)).state.messages


async def test_a_message_is_published_once_with_all_that_came(broker: Broker) -> None:
    publisher, one = await publisher_to(broker), rejection()
    for _ in range(2):
        assert await publisher.publish([one], lambda _: 3) == [True]
    assert await published(broker) == 1
    platform = await broker.connect_as(broker.platform)
    kept = await platform.jetstream.get_last_msg(declarations.DLQ, f"dlq.{ACCOUNT}.malformed_json")
    label, body = dead_letter.unpack(kept.data or b"")
    assert (label.attempts, label.headers, body) == (3, {"Nats-Rollup": "all"}, b"{")


async def test_what_must_not_be_kept_of_a_body_is_not(broker: Broker) -> None:
    publisher = await publisher_to(broker, body=lambda data: data.replace(b"secret", b"(removed)"))
    assert await publisher.publish([rejection(body=b"a secret")], lambda _: 1) == [True]
    platform = await broker.connect_as(broker.platform)
    kept = await platform.jetstream.get_last_msg(declarations.DLQ, "dlq.>")
    assert dead_letter.unpack(kept.data or b"")[1] == b"a (removed)"


async def test_a_body_as_large_as_a_message_is_published(broker: Broker) -> None:
    assert await (await publisher_to(broker)).publish(
        [rejection(body=b"x" * 1024**2)], lambda _: 1
    ) == [True]


async def test_without_the_queue_nothing_is_said_to_be_safe_and_it_is_made(
    own_broker: Broker,
) -> None:
    publisher = await publisher_to(own_broker)
    many = [rejection(number) for number in range(1, 250)]
    assert not any(await publisher.publish(many, lambda _: 1))
    assert all(await publisher.publish(many, lambda _: 1))
    assert await published(own_broker) == len(many)


async def test_one_accounts_flood_displaces_no_other_in_the_queue(broker: Broker) -> None:
    platform = await broker.connect_as(broker.platform)
    wanted = (await platform.jetstream.stream_info(declarations.DLQ)).config
    await platform.jetstream.update_stream(wanted, max_msgs_per_subject=10)
    publisher, calm = await publisher_to(broker), "A" + "B" * 55
    await publisher.publish(
        [rejection(number, account=calm) for number in range(1, 6)], lambda _: 1
    )
    await publisher.publish([rejection(number) for number in range(10, 60)], lambda _: 1)
    info = await platform.jetstream.stream_info(declarations.DLQ, subjects_filter="dlq.>")
    assert info.state.subjects == {
        f"dlq.{calm}.malformed_json": 5,
        f"dlq.{ACCOUNT}.malformed_json": 10,
    }


def test_of_bad_live_messages_a_sample_of_each_account_is_kept() -> None:
    now = 0.0
    sample = Sample(clock=lambda: now)
    flood, calm = [rejection()] * 1_000, [rejection(account="calm")] * 3
    assert len(sample.of([*flood, *calm])) == Sample.AT_ONCE + 3
    assert sample.of(flood) == []
    now = 12.0
    assert len(sample.of(flood)) == 2


@pytest.mark.parametrize("number", [Sample.ACCOUNTS + 5])
def test_made_up_accounts_do_not_fill_the_memory(number: int) -> None:
    sample = Sample()
    sample.of([rejection(account=str(each)) for each in range(number)])
    assert len(sample._left) <= Sample.ACCOUNTS
