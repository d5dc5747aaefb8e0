"""Periodic work and side tasks: when a round is run, what happens when it fails, how they end."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, nullcontext
from types import SimpleNamespace
from typing import Any, cast

import pytest
from django.db import OperationalError
from django.utils.module_loading import autodiscover_modules

from natsbridge.client.connection import Connection, connect
from natsbridge.client.login import Login, open_unless
from natsbridge.identity import nkeys
from natsbridge.postgres import locks
from natsbridge.postgres.locks import Lock
from natsbridge.postgres.wakeups import Wakeups, notify
from natsbridge.registry import Periodic, PeriodicWork, Registry, SideTask, registry
from natsbridge.runtime import Part, Runtime, Worker
from natsbridge.subscriber import app
from natsbridge.subscriber.app import Subscriber, part_names, with_companions
from natsbridge.subscriber.periodic import run_periodic, run_side_task
from tests.plugin import allot_port
from tests.support.waiting import SAFETY_NET, aeventually

# Longer than any test waits.
NEVER = 10 * SAFETY_NET
CHANNEL = "wegweiser_tests"


@pytest.fixture
def runtime() -> Runtime:
    # Of the connection to the broker periodic work has no need.
    return Runtime(cast(Connection, None), Wakeups([CHANNEL]), "here", Counter())


@asynccontextmanager
async def running(task: Coroutine[Any, Any, None], runtime: Runtime) -> AsyncIterator[None]:
    """Runs it for the length of the block, and then to its end."""
    going = asyncio.ensure_future(task)
    try:
        yield
    finally:
        runtime.stopping.set()
        runtime.drained.set()
        await asyncio.wait_for(going, SAFETY_NET)


def job(work: PeriodicWork, **options: Any) -> Periodic:
    return Periodic("job", work, **{"every": NEVER} | options)


async def test_work_is_done_at_once_and_again_in_one_thread_of_its_own(runtime: Runtime) -> None:
    threads: list[str] = []

    def work(runtime: Runtime) -> None:
        threads.append(threading.current_thread().name)

    async with running(run_periodic(runtime, job(work, every=0.01)), runtime):
        await aeventually(lambda: len(threads) > 3)
    assert set(threads) == {"job_0"}


async def test_what_work_returns_is_when_it_is_next_done(runtime: Runtime) -> None:
    done: list[int] = []

    def work(runtime: Runtime) -> float | None:
        done.append(1)
        return 0.0 if len(done) < 5 else None

    async with running(run_periodic(runtime, job(work)), runtime):
        await aeventually(lambda: len(done) == 5)


@pytest.mark.django_db(transaction=True)
async def test_work_is_done_when_its_channel_is_notified(runtime: Runtime) -> None:
    done: list[int] = []
    listening = asyncio.ensure_future(runtime.wakeups.listen())
    somebody = Worker("somebody")
    work = job(lambda runtime: done.append(1), wakes_on=CHANNEL)
    try:
        async with running(run_periodic(runtime, work), runtime):
            # Once at the start, and once when the listener has its connection.
            await aeventually(lambda: len(done) == 2)
            await somebody.run(notify, CHANNEL)
            await aeventually(lambda: len(done) == 3)
    finally:
        await somebody.close()
        listening.cancel()
        await asyncio.wait([listening])


async def test_work_that_finds_a_server_away_is_counted_and_done_again(runtime: Runtime) -> None:
    done: list[int] = []

    def work(runtime: Runtime) -> None:
        done.append(1)
        if len(done) == 1:
            raise OperationalError("Postgres is away")

    async with running(run_periodic(runtime, job(work, every=0.01)), runtime):
        await aeventually(lambda: len(done) > 1)
    assert runtime.counters == {"task_failures.job": 1}


async def test_any_other_error_reaches_the_supervisor(runtime: Runtime) -> None:
    def work(runtime: Runtime) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await run_periodic(runtime, job(work))


async def test_when_stopping_work_with_a_last_time_is_done_once_more(runtime: Runtime) -> None:
    stopping: list[bool] = []

    def work(runtime: Runtime) -> None:
        stopping.append(runtime.stopping.is_set())

    async with running(run_periodic(runtime, job(work, last=SAFETY_NET)), runtime):
        await aeventually(lambda: stopping == [False])
    assert stopping == [False, True]


async def test_what_is_only_in_memory_is_written_although_another_part_is_late(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "DRAIN_SECONDS", 0.0)
    registered, stopping = Registry(), list[bool]()

    @registered.periodic("job", every=NEVER, last=SAFETY_NET)
    def work(runtime: Runtime) -> None:
        stopping.append(runtime.stopping.is_set())

    late = asyncio.create_task(asyncio.sleep(NEVER), name="late")
    going = run_periodic(runtime, registered.periodics["job"])
    tasks = [late, asyncio.create_task(going, name="job")]
    await aeventually(lambda: stopping == [False])
    runtime.stopping.set()
    subscriber = Subscriber(registered, nullcontext)  # type: ignore[arg-type]
    assert await subscriber._drain(runtime, tasks) == {late}
    assert stopping == [False, True]
    late.cancel()


async def test_a_last_time_that_hangs_is_left(runtime: Runtime) -> None:
    release = threading.Event()

    def work(runtime: Runtime) -> None:
        if runtime.stopping.is_set():
            release.wait(SAFETY_NET)

    try:
        async with running(run_periodic(runtime, job(work, last=0.1)), runtime):
            pass
        assert not release.is_set()
    finally:
        release.set()


async def test_what_comes_right_after_a_wakeup_is_taken_together(runtime: Runtime) -> None:
    done: list[int] = []
    work = job(lambda runtime: done.append(1), wakes_on=CHANNEL, least=NEVER)
    async with running(run_periodic(runtime, work), runtime):
        await aeventually(lambda: done)
        runtime.wakeups._wake(CHANNEL)
        (wake,) = runtime.wakeups._events[CHANNEL]
        await aeventually(lambda: not wake.is_set())
        assert len(done) == 1


@pytest.mark.django_db(transaction=True)
async def test_work_with_a_lock_is_left_to_who_holds_it(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[int] = []
    tries: list[int] = []
    take = locks.take

    def try_it(name: Lock, of: object = "") -> bool:
        tries.append(1)
        return take(name, of)

    monkeypatch.setattr(locks, "take", try_it)
    work = job(lambda runtime: done.append(1), every=0.01, lock=Lock.RENEWALS)
    somebody = Worker("somebody")
    assert await somebody.run(take, Lock.RENEWALS)
    async with running(run_periodic(runtime, work), runtime):
        await aeventually(lambda: len(tries) > 2)
        assert not done
        await somebody.run(locks.release, Lock.RENEWALS)
        await aeventually(lambda: len(done) > 1)
    assert await somebody.run(take, Lock.RENEWALS)
    await somebody.close()


@pytest.mark.django_db(transaction=True)
async def test_the_last_time_comes_when_the_other_parts_have_stopped() -> None:
    fresh = Registry()
    started, told = asyncio.Event(), list[str]()

    @fresh.periodic("job", every=NEVER, last=SAFETY_NET)
    def job(runtime: Runtime) -> None:
        told.append("job")

    @fresh.side_task("task")
    async def task(part: Part) -> None:
        started.set()
        await part.runtime.stopping.wait()
        await part.worker.run(time.sleep, 0.2)
        told.append("task")

    @asynccontextmanager
    async def connecting() -> AsyncIterator[Connection]:
        kept = SimpleNamespace(watch=asyncio.Event().wait, is_connected=True)
        yield cast(Connection, kept)

    stop = asyncio.Event()
    subscriber = asyncio.ensure_future(
        Subscriber(fresh, connecting, only=["job", "task"]).run(stop)
    )
    await started.wait()
    await aeventually(lambda: told == ["job"])
    stop.set()
    await asyncio.wait_for(subscriber, SAFETY_NET)
    assert told == ["job", "task", "job"]


def login() -> Login:
    user = nkeys.generate("user")
    return Login("no JWT", user.seed)


async def test_a_task_whose_connection_is_not_there_yet_stops_at_once(
    runtime: Runtime, settings: Any
) -> None:
    settings.NATS_URL = f"nats://127.0.0.1:{allot_port()}"
    worked: list[Part] = []

    async def work(part: Part) -> None:
        worked.append(part)

    async with running(run_side_task(runtime, SideTask("task", work, login)), runtime):
        await asyncio.sleep(0.2)
    assert not worked


async def test_a_connection_that_is_cancelled_while_it_is_awaited_is_not_left_behind() -> None:
    url = f"nats://127.0.0.1:{allot_port()}"
    before = asyncio.all_tasks()
    opening = open_unless(
        asyncio.Event(), connect(url, user_jwt=lambda: "", seed=login().seed, name="test")
    )
    waiting = asyncio.ensure_future(opening.__aenter__())
    await asyncio.sleep(0.2)
    waiting.cancel()
    await asyncio.wait([waiting], timeout=SAFETY_NET)
    assert asyncio.all_tasks() <= before


@pytest.mark.parametrize(
    ("named", "come_along"),
    [
        ("metrics", {"heard"}),
        ("ingest", {"floods"}),
        ("latest", {"floods"}),
        ("presence", {"refused logins"}),
        ("connection limit", {"refused logins"}),
        ("commands", {"command deadlines"}),
        ("accounts", {"due endings"}),
        ("auth", set()),
        ("floods", set()),
    ],
)
def test_what_shares_a_parts_memory_runs_in_its_process(named: str, come_along: set[str]) -> None:
    autodiscover_modules("handlers")
    assert with_companions(registry, [named]) == {named, *come_along}


def test_only_parts_that_there_are_have_companions() -> None:
    autodiscover_modules("handlers")
    assert registry.companions.keys() <= set(part_names(registry))


def test_a_name_is_registered_once() -> None:
    fresh = Registry()
    fresh.periodic("job", every=1.0)(lambda runtime: None)
    with pytest.raises(ValueError, match="registered twice"):
        fresh.periodic("job", every=1.0)(lambda runtime: None)
