"""A circuit breaker around each server that can be away: whoever would wait for it waits at most
once for all.

Ours, and not a library's: those guard one call in one flow of control, with a counter in the
place of a reason. Here threads and the event loop share one, what is refused is a batch that is
kept, and an operator reads its state.
"""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import structlog

log = structlog.get_logger(__name__)

# So many failures in a row open it.
THRESHOLD = 2
LONGEST_SECONDS = 5.0
# A probe that has not come back by then has not either succeeded or failed: another may try.
PROBE_SECONDS = 30.0


class Breaker:
    """`admits()` before, `succeeded()` or `failed(why)` after. Open, it admits one probe after
    a pause that grows to LONGEST_SECONDS."""

    def __init__(self, name: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._opened_at: datetime | None = None
        self._next_probe = 0.0
        self._reason = ""
        self._times_opened = 0
        _all[name] = self

    @property
    def is_open(self) -> bool:
        return self._opened_at is not None

    def admits(self) -> bool:
        """Whether to try now. True while it is open is for one caller: the probe."""
        with self._lock:
            if self._opened_at is None:
                return True
            if self._clock() < self._next_probe:
                return False
            self._next_probe = self._clock() + PROBE_SECONDS
            return True

    def succeeded(self) -> None:
        with self._lock:
            was_open, self._opened_at, self._failures = self.is_open, None, 0
        if was_open:
            log.info("it answers again", server=self.name)

    def failed(self, reason: str) -> None:
        with self._lock:
            self._failures += 1
            self._reason = reason.strip()[:300]
            pause = min(2.0 ** (self._failures - THRESHOLD), LONGEST_SECONDS)
            self._next_probe = self._clock() + pause
            opens = self._failures >= THRESHOLD and self._opened_at is None
            if opens:
                self._opened_at = datetime.now(UTC)
                self._times_opened += 1
        if opens:
            log.warning("it does not answer", server=self.name, reason=self._reason)

    def state(self) -> dict[str, Any]:
        """For the service status."""
        state: dict[str, Any] = {
            "state": "open" if self.is_open else "closed",
            "times_opened": self._times_opened,
        }
        if self._opened_at is not None:
            state |= {"since": self._opened_at.isoformat(), "reason": self._reason}
        return state


_all: dict[str, Breaker] = {}

# Every part of the subscriber that writes rows.
DATABASE = Breaker("postgres")


def states() -> dict[str, dict[str, Any]]:
    """Of every breaker of this process, by name."""
    return {name: breaker.state() for name, breaker in sorted(_all.items())}
