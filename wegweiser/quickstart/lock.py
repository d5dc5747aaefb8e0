"""One quickstart for each home at a time."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from wegweiser.quickstart.errors import AlreadyRunning

STOPPING = "stopping"
# Another quickstart notices within a second that the `make` it belonged to was killed.
PATIENCE = 2.0
# And may then take this long to stop, with the subscriber draining.
PATIENCE_WHILE_STOPPING = 60.0


class HomeLock:
    """The kernel lets go of it when the process ends, however it ends."""

    def __init__(self, home: Path) -> None:
        self.path = home / "quickstart.lock"
        self._descriptor: int | None = None

    @contextmanager
    def held(self, check: Callable[[], None]) -> Iterator[None]:
        """Waits for one that is about to stop. Raises AlreadyRunning."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            self._acquire(descriptor, check)
            self._descriptor = descriptor
            self._write(str(os.getpid()))
            yield
        finally:
            self._descriptor = None
            os.close(descriptor)

    def say_stopping(self) -> None:
        """Tell those who wait that it is worth while."""
        self._write(STOPPING)

    def _acquire(self, descriptor: int, check: Callable[[], None]) -> None:
        started = time.monotonic()
        while True:
            check()
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                holder = self.path.read_text()
            patience = PATIENCE_WHILE_STOPPING if holder == STOPPING else PATIENCE
            if time.monotonic() - started > patience:
                raise AlreadyRunning(
                    f"Wegweiser already runs on {self.path.parent} (process {holder}). "
                    "Stop that one first, or choose another folder with WEGWEISER_HOME."
                )
            time.sleep(0.1)

    def _write(self, text: str) -> None:
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, text.encode(), 0)
