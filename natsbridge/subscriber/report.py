"""Report on the service as a whole, from what its subscribers last wrote about themselves."""

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from natsbridge.errors import NoSubscriber
from natsbridge.models import Pause, SubscriberStatus
from natsbridge.subscriber import pause
from natsbridge.subscriber.status import running_subscribers


class RunState(StrEnum):
    """What staff want of the service (running or paused), and what its subscribers do."""

    RUNNING = "running"
    PAUSED = "paused"
    PAUSING = "pausing"
    RESUMING = "resuming"
    DISCONNECTED = "disconnected"


@dataclass(frozen=True)
class ServiceReport:
    """The service as staff want it, as it is, and its subscribers' figures added up."""

    pause: Pause | None
    subscribers: list[SubscriberStatus]

    @property
    def desired_state(self) -> RunState:
        return RunState.PAUSED if self.pause else RunState.RUNNING

    @property
    def actual_state(self) -> RunState:
        paused = [each.paused for each in self.subscribers]
        if self.pause:
            return RunState.PAUSED if all(paused) else RunState.PAUSING
        if any(paused):
            return RunState.RESUMING
        connected = any(each.connected for each in self.subscribers)
        return RunState.RUNNING if connected else RunState.DISCONNECTED

    @property
    def counters(self) -> dict[str, int]:
        total = Counter[str]()
        for each in self.subscribers:
            total.update(each.details.get("counters", {}))
        return dict(sorted(total.items()))

    @property
    def breakers(self) -> dict[str, dict[str, Any]]:
        """Return the state of each breaker, of an open one where subscribers differ."""
        found: dict[str, dict[str, Any]] = {}
        for each in self.subscribers:
            for name, breaker in each.details.get("breakers", {}).items():
                if name not in found or breaker["state"] == "open":
                    found[name] = breaker
        return found

    @property
    def consumers(self) -> list[dict[str, Any]]:
        """Return what waits for each consumer, as the subscriber that wrote last has measured."""
        measured = (each.details["consumers"] for each in self.subscribers if _measures(each))
        return next(measured, [])


def _measures(status: SubscriberStatus) -> bool:
    return "consumers" in status.details


def service_report() -> ServiceReport:
    """Raise NoSubscriber if none has written its status lately."""
    wanted, subscribers = pause.current(), list(running_subscribers().order_by("-beat_at"))
    if not subscribers:
        raise NoSubscriber(
            "No subscriber is running, so no message is processed. Start one on a server of the "
            "platform with `manage.py nats_subscriber`; the service is "
            f"{'paused, and stays so' if wanted else 'not paused'}."
        )
    return ServiceReport(wanted, subscribers)
