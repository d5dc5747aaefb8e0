"""The parts of a subscriber when something goes wrong: noticed, restarted, ended in time."""

import asyncio
import gc
import json
import threading
import urllib.request
from collections import Counter
from types import SimpleNamespace
from typing import Any, cast

import pytest

from natsbridge.client.connection import Connection
from natsbridge.client.pull import PullConsumer
from natsbridge.errors import DependencyAway
from natsbridge.postgres.wakeups import Wakeups
from natsbridge.protocol.subjects import METRIC_PATTERN
from natsbridge.registry import LiveSubscription
from natsbridge.runtime import Runtime, Worker, supervise
from natsbridge.subscriber import app
from natsbridge.subscriber.live_intake import LiveIntake
from natsbridge.subscriber.status import service_state
from tests.support.broker import Broker
from tests.support.broker import eventually as broker_eventually
from tests.support.system import System, eventually
from tests.support.waiting import SAFETY_NET


async def test_a_task_that_dies_is_counted_and_started_again() -> None:
    until, counters, starts = asyncio.Event(), Counter[str](), []

    async def run() -> None:
        starts.append(1)
        if len(starts) == 1:
            raise ZeroDivisionError
        until.set()

    await asyncio.wait_for(supervise("part", run, until=until, counters=counters), SAFETY_NET)
    assert len(starts) == 2
    assert counters == {"task_failures.part": 1}


async def test_a_thread_that_hangs_does_not_hold_up_its_worker() -> None:
    worker, release = Worker("hanging"), threading.Event()
    hanging = asyncio.create_task(worker.run(release.wait))
    await asyncio.sleep(0.1)
    try:
        await asyncio.wait_for(worker.close(), SAFETY_NET)
        assert not hanging.done(), "the thread still hangs"
    finally:
        release.set()
    hanging.cancel()
    await asyncio.wait([hanging], timeout=SAFETY_NET)


async def test_a_live_intake_that_fails_leaves_no_subscription(broker: Broker) -> None:
    peer = await broker.connect_as(broker.platform)
    connection = cast("Connection", SimpleNamespace(client=peer.client))
    runtime = Runtime(connection, Wakeups(()), "test", Counter())
    runtime.in_service.set()

    def handle(messages: Any) -> Any:
        raise ZeroDivisionError

    subscription = LiveSubscription("live", "tests.live", "tests", handle)
    intake = LiveIntake(runtime, subscription, connection)
    running = asyncio.create_task(intake.run())
    while not running.done():
        await peer.publish("tests.live")
        await asyncio.sleep(0.05)
    assert isinstance(running.exception(), ZeroDivisionError)
    assert not peer.client._subs or all(
        subscription.subject != "tests.live" for subscription in peer.client._subs.values()
    )


async def test_what_live_messages_take_of_the_memory_is_bounded_in_bytes_too(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("natsbridge.subscriber.live_intake.BUFFER_BYTES", 10_000)
    peer = await broker.connect_as(broker.platform)
    connection = cast("Connection", SimpleNamespace(client=peer.client, is_connected=True))
    runtime = Runtime(connection, Wakeups(()), "test", Counter())
    runtime.in_service.set()

    def away(messages: Any) -> Any:
        raise DependencyAway("Redis is away")

    intake = LiveIntake(runtime, LiveSubscription("live", "tests.live", "tests", away), connection)
    running = asyncio.create_task(intake.run())
    assert await broker_eventually(lambda: bool(peer.client._subs))
    for _ in range(50):
        await peer.publish("tests.live", b"x" * 1_000)
    state = runtime.gauges["live.live"]()
    assert state["buffered_bytes"] <= 10_000
    assert runtime.counters["live.live.dropped"] + state["buffered"] == 50
    runtime.stopping.set()
    await asyncio.wait_for(running, SAFETY_NET)


def test_live_messages_come_over_a_connection_of_their_own(system: System) -> None:
    system.start_subscriber()
    eventually(lambda: service_state().connected)
    eventually(lambda: len(connections_listening(system, METRIC_PATTERN)) == 1)
    commanding = connections_listening(system, "_INBOX.>")
    assert not connections_listening(system, METRIC_PATTERN) & commanding


def connections_listening(system: System, subject: str) -> set[int]:
    """Who has a subscription to it, or one below it."""
    page = f"{system.server.monitor_url}/connz?subs=1"
    with urllib.request.urlopen(page, timeout=SAFETY_NET) as answer:
        found = json.load(answer)["connections"]
    begin = subject.removesuffix(">")
    return {
        each["cid"]
        for each in found
        if any(
            one == subject or (begin != subject and one.startswith(begin))
            for one in each.get("subscriptions_list", ())
        )
    }


def test_an_event_goes_with_its_waiter_and_only_declared_channels_are_heard() -> None:
    wakeups = Wakeups(["channel"])
    kept = wakeups.on("channel")
    wakeups.on("channel")
    gc.collect()
    assert list(wakeups._events["channel"]) == [kept]
    with pytest.raises(KeyError):
        wakeups.on("another")


def test_a_connection_that_is_no_longer_kept_ends_the_subscriber(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def watch(connection: Connection) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Connection, "watch", watch)
    system.start_subscriber()
    ((_, running),) = system._running
    system._running.clear()
    with pytest.raises(ZeroDivisionError):
        running.result(SAFETY_NET)


def test_a_subscriber_that_waits_for_messages_stops_without_waiting_for_one(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = PullConsumer.batch
    # Neither the wait for a message nor the draining ends before this test does.
    monkeypatch.setattr(PullConsumer, "batch", lambda pull, _: batch(pull, 10 * SAFETY_NET))
    monkeypatch.setattr(app, "DRAIN_SECONDS", 10 * SAFETY_NET)
    system.start_subscriber()
    eventually(lambda: service_state().connected)
    system.stop_subscriber()
