"""Record logins that the broker refused: thousands of them become a few rows with counts."""

import time
from collections.abc import Callable, Sequence

from tenants.audit.rules.coalescer import Coalescer
from tenants.audit.writer import Actor, AuditEvent, device_actor, record_events
from tenants.callout.rules import Refusal, others_of
from tenants.models import Action, ActorKind

VIA = "broker"


class RefusedLogins:
    """Coalesces the refused logins of one process. Call `flush` now and then, and at the end."""

    def __init__(self) -> None:
        self._coalescer = Coalescer(others=others_of)
        self.total = 0

    def record(self, refusals: Sequence[Refusal]) -> None:
        """Write the first of each kind, and count the rest even after a rollback."""
        self.stage(refusals)()

    def stage(self, refusals: Sequence[Refusal]) -> Callable[[], None]:
        """Write the first of each kind in the caller's transaction, and return a function.

        Call it after the commit to count the rest.
        """
        planned = self._coalescer.plan(refusals)
        record_events(
            _event(each, 1) for each, kind in zip(refusals, planned, strict=True) if kind is None
        )

        def count() -> None:
            self.total += len(refusals)
            self._coalescer.count(refusals, planned, time.monotonic())

        return count

    def flush(self, *, at_once: bool = False) -> None:
        """Write what has been counted, when it is time."""
        with self._coalescer.due(time.monotonic(), at_once=at_once) as counted:
            record_events(_event(refusal, count) for refusal, count in counted)


def _event(refusal: Refusal, count: int) -> AuditEvent:
    return AuditEvent(
        Action.CALLOUT_REJECTED if refusal.rejected else Action.BROKER_REFUSED,
        refusal.tenant,
        _actor(refusal),
        device=refusal.device,
        target=refusal.name,
        address=refusal.address,
        via=VIA,
        count=count,
        detail={"reason": refusal.reason},
    )


def _actor(refusal: Refusal) -> Actor:
    """Return who was refused: unknown, unless the server has verified the name."""
    if not refusal.proven:
        return Actor(ActorKind.UNKNOWN, refusal.name)
    if refusal.device:
        return device_actor(refusal.device)
    return Actor(ActorKind.CREDENTIAL, refusal.name)
