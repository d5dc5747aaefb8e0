"""When devices were last heard by their live metrics: in the database, but not with each point."""

import math
import time
from collections.abc import Mapping
from datetime import datetime
from threading import Lock
from uuid import UUID

from devices.telemetry.reports import record_seen

# So often at most it is written down of one device.
EVERY_SECONDS = 15.0
# Beyond this many devices what is known starts afresh, so that it cannot fill the memory.
_KNOWN_DEVICES = 200_000


class Heard:
    """`note` is for the live intake, which must not wait for a database that hangs; `write` is for
    a task of its own."""

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
        """Write those that are due. Raises what says that the database is away; what is lost so
        comes again with the devices' next points."""
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
