"""Seal the audit's rows, and anchor their hash chain, as periodic work of the subscriber."""

from natsbridge.runtime import Runtime
from tenants.audit import sealing


def seal_all(runtime: Runtime) -> None:
    """Seal the rows there are, and anchor them. When stopping, seal one batch only."""
    while sealed := sealing.seal_batch():
        runtime.counters["audit.sealed"] += sealed
        if runtime.stopping.is_set():
            break
        _anchor(runtime)
    _anchor(runtime, at_once=runtime.stopping.is_set())


def _anchor(runtime: Runtime, *, at_once: bool = False) -> None:
    problem = sealing.anchor_head(at_once=at_once)
    if problem is not None:
        runtime.gauges["audit_anchors"] = lambda: problem or "written"
