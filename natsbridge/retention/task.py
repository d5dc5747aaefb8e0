"""The side task that once a day removes what is old."""

from typing import Any

from natsbridge.models import Pruning
from natsbridge.retention import engine as retention
from natsbridge.runtime import Runtime, Worker

# A subscriber that has just started has more urgent things to do.
FIRST_SECONDS = 60.0
CHECK_SECONDS = 600.0


async def prune_daily(runtime: Runtime) -> None:
    """Until stopping, which a run that is under way does not put off."""
    worker = Worker("pruning")
    try:
        await runtime.pause(FIRST_SECONDS)
        while not runtime.stopping.is_set():
            outcomes = await worker.run(
                retention.prune_if_due, retention.retention.kinds, stop=runtime.stopping.is_set
            )
            for outcome in outcomes:
                runtime.counters[f"pruned.{outcome.name}"] += outcome.rows
            runtime.gauges["pruning"] = _said(await worker.run(retention.last_run))
            await runtime.pause(CHECK_SECONDS)
    finally:
        await worker.close()


def _said(last: Pruning | None) -> Any:
    if last is None:
        return lambda: "never"
    figures = {
        "finished_at": last.finished_at.isoformat(),
        "rows": last.rows,
        "problems": last.problems,
    }
    return lambda: figures
