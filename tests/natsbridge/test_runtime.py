"""The parts of a subscriber when something goes wrong: noticed, restarted, ended in time."""

import asyncio
import gc
import threading
import time
from collections import Counter
from types import SimpleNamespace
from typing import Any, cast

import pytest

from natsbridge.connection import Connection
from natsbridge.live_intake import LiveIntake
from natsbridge.registry import LiveSubscription
from natsbridge.runtime import Runtime, Worker, supervise
from natsbridge.wakeups import Wakeups
from tests.broker import Broker
from tests.system import System


async def test_a_task_that_dies_is_counted_and_started_again() -> None:
    until, counters, starts = asyncio.Event(), Counter[str](), []

    async def run() -> None:
        starts.append(1)
        if len(starts) == 1:
            raise ZeroDivisionError
        until.set()

    await asyncio.wait_for(supervise("part", run, until=until, counters=counters), 5)
    assert len(starts) == 2
    assert counters == {"task_failures.part": 1}


async def test_a_thread_that_hangs_does_not_hold_up_its_worker() -> None:
    worker, release = Worker("hanging"), threading.Event()
    hanging = asyncio.create_task(worker.run(release.wait))
    await asyncio.sleep(0.1)
    started = time.monotonic()
    try:
        await worker.close()
    finally:
        release.set()
    assert time.monotonic() - started < 4
    hanging.cancel()
    await asyncio.wait([hanging], timeout=5)


async def test_a_live_intake_that_fails_leaves_no_subscription(broker: Broker) -> None:
    peer = await broker.connect_as(broker.platform)
    connection = cast("Connection", SimpleNamespace(client=peer.client))
    runtime = Runtime(connection, Wakeups(()), "test", Counter())

    def handle(messages: Any) -> Any:
        raise ZeroDivisionError

    intake = LiveIntake(runtime, LiveSubscription("live", "tests.live", "tests", handle))
    running = asyncio.create_task(intake.run())
    while not running.done():
        await peer.publish("tests.live")
        await asyncio.sleep(0.05)
    assert isinstance(running.exception(), ZeroDivisionError)
    assert not peer.client._subs or all(
        subscription.subject != "tests.live" for subscription in peer.client._subs.values()
    )


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
        running.result(20)
