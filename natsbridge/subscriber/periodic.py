"""Run the periodic work and the side tasks that apps have registered."""

import asyncio
from contextlib import suppress

from natsbridge.client.login import connect_as, open_unless
from natsbridge.postgres import locks
from natsbridge.registry import Periodic, SideTask
from natsbridge.runtime import PASSING, Part, Runtime, Worker, repeat


async def run_periodic(runtime: Runtime, job: Periodic) -> None:
    """Run the job until stopping, and once more then if it has a `last` time."""
    worker = Worker(job.name)

    async def run() -> float | None:
        return await worker.run(_do, job, runtime)

    try:
        if job.first:
            await runtime.pause(job.first)
        await repeat(
            job.name, runtime, run, every=job.every, wakes_on=job.wakes_on, least=job.least
        )
        if job.last:
            # What the others record while they drain is there to be written then.
            await runtime.drained.wait()
            with suppress(*PASSING):
                await asyncio.wait_for(run(), job.last)
    finally:
        await worker.close()


async def run_side_task(runtime: Runtime, task: SideTask) -> None:
    """Run the task over its connection, waiting for that until stopping."""
    worker = Worker(task.name)
    try:
        if task.login is None:
            await task.work(Part(task.name, runtime, worker, runtime.connection))
            return
        login = await worker.run(task.login)
        async with open_unless(runtime.stopping, connect_as(login, task.name)) as connection:
            if connection:
                await task.work(Part(task.name, runtime, worker, connection))
    finally:
        await worker.close()


def _do(job: Periodic, runtime: Runtime) -> float | None:
    if job.lock is None:
        return job.work(runtime)
    with locks.held_if_free(job.lock) as taken:
        return job.work(runtime) if taken else None
