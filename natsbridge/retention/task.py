"""Prune once a day, and report it in the status of the subscriber."""

from typing import Any

from natsbridge.models import Pruning
from natsbridge.retention import engine
from natsbridge.runtime import Runtime


def prune_daily(runtime: Runtime) -> None:
    """Prune if it has not been done today. Stopping does not wait for a run that is under way."""
    for outcome in engine.prune_if_due(engine.retention.kinds, stop=runtime.stopping.is_set):
        runtime.counters[f"pruned.{outcome.name}"] += outcome.rows
    runtime.gauges["pruning"] = _figures(engine.last_run())


def _figures(last: Pruning | None) -> Any:
    if last is None:
        return lambda: "never"
    figures = {
        "finished_at": last.finished_at.isoformat(),
        "rows": last.rows,
        "problems": last.problems,
    }
    return lambda: figures
