"""Break the circuit to a server that is away, so that not every part waits for it.

Libraries for this guard a call in one flow of control, and count failures without a reason. Here
threads and the event loop share a breaker, what it refuses is a batch that is kept, and operators
read its state.
"""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import structlog

log = structlog.get_logger(__name__)

# How many failures in a row open a breaker.
THRESHOLD = 2
LONGEST_SECONDS = 5.0
# A probe that has neither succeeded nor failed after so long is given up: another may try.
PROBE_SECONDS = 30.0


class Breaker:
    """Guards calls to one server: `admits()` before, `succeeded()` or `failed(reason)` after.

    While open it admits one probe at a time, after a pause that grows to LONGEST_SECONDS.
    """

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
        """Return whether to try now. While open, this is true for one caller: the probe."""
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
            log.info("server answers again", server=self.name)

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
            log.warning("server does not answer", server=self.name, reason=self._reason)

    def state(self) -> dict[str, Any]:
        """Return the state for the status of the subscriber."""
        state: dict[str, Any] = {
            "state": "open" if self.is_open else "closed",
            "times_opened": self._times_opened,
        }
        if self._opened_at is not None:
            state |= {"since": self._opened_at.isoformat(), "reason": self._reason}
        return state


_all: dict[str, Breaker] = {}

# Shared by every part of the subscriber that writes rows.
DATABASE = Breaker("postgres")


def states() -> dict[str, dict[str, Any]]:
    """Return the states of all breakers of this process, by name."""
    return {name: breaker.state() for name, breaker in sorted(_all.items())}
