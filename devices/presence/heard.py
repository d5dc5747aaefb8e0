"""Record when devices last sent live metrics, but not with every point."""

import math
import time
from collections.abc import Mapping
from datetime import datetime
from threading import Lock
from uuid import UUID

from devices.telemetry.reports import record_seen

# The least time between two writes for one device.
EVERY_SECONDS = 15.0
# Beyond this many devices the memory is emptied, so that it cannot grow without end.
_KNOWN_DEVICES = 200_000


class Heard:
    """Collect devices in `note`, which never waits for the database, and store them in `write`,
    which a task of its own calls."""

    def __init__(self, every: float = EVERY_SECONDS) -> None:
        self.every = every
        self._lock = Lock()
        self._due: dict[UUID, datetime] = {}
        self._written: dict[UUID, float] = {}

    def note(self, devices: Mapping[UUID, datetime]) -> None:
        now = time.monotonic()
        with self._lock:
            if len(self._due) > _KNOWN_DEVICES:
                self._due.clear()
            for device, at in devices.items():
                if now - self._written.get(device, -math.inf) >= self.every:
                    self._due[device] = at

    def write(self) -> None:
        """Store the devices that are due. Raise if the database is away; the devices' next points
        make up for what is lost then."""
        with self._lock:
            due, self._due = self._due, {}
        if not due:
            return
        record_seen(due)
        with self._lock:
            if len(self._written) + len(due) > _KNOWN_DEVICES:
                self._written.clear()
            self._written.update(dict.fromkeys(due, time.monotonic()))


heard = Heard()
