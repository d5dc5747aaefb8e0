"""The side task that seals the audit's rows."""

import asyncio
from contextlib import suppress

import structlog

from natsbridge.runtime import DATABASE_AWAY, Runtime, Worker
from tenants.audit import sealing
from tenants.audit.writer import AUDIT_CHANNEL

log = structlog.get_logger(__name__)

# In case a wake-up was lost, and for the anchor after the last row.
POLL_SECONDS = 10.0
# What comes within this time of the first is sealed with it.
GATHER_SECONDS = 0.2
# What is left to seal when stopping is sealed, if the database answers within this time.
LAST_SECONDS = 1.0


async def keep_sealed(runtime: Runtime) -> None:
    """Until stopping; the chain's head is anchored then."""
    wake = runtime.wakeups.on(AUDIT_CHANNEL)
    worker = Worker("audit")
    try:
        while not runtime.stopping.is_set():
            try:
                await _seal_all(runtime, worker)
            except DATABASE_AWAY as error:
                log.warning("the audit waits for the database", error=str(error).strip())
            await runtime.pause(POLL_SECONDS, wake=wake)
            await runtime.pause(GATHER_SECONDS)
        with suppress(*DATABASE_AWAY, TimeoutError):
            await asyncio.wait_for(_seal_all(runtime, worker, at_once=True), LAST_SECONDS)
    finally:
        await worker.close()


async def _seal_all(runtime: Runtime, worker: Worker, *, at_once: bool = False) -> None:
    while sealed := await worker.run(sealing.seal_batch):
        runtime.counters["audit.sealed"] += sealed
        await _anchor(runtime, worker)
    await _anchor(runtime, worker, at_once=at_once)


async def _anchor(runtime: Runtime, worker: Worker, *, at_once: bool = False) -> None:
    problem = await worker.run(sealing.anchor_head, at_once=at_once)
    if problem is not None:
        runtime.gauges["audit_anchors"] = lambda: problem or "written"
