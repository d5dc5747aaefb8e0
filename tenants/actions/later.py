"""Work that a web process does by itself after a while, since nothing calls it again."""

from collections.abc import Callable
from threading import Lock, Timer

import structlog
from django.db import Error as AnyDatabaseError
from django.db import connection

log = structlog.get_logger(__name__)


class Later:
    """Runs `work` once, `seconds()` after it was asked for; asked again meanwhile changes nothing.

    It runs in a thread of its own. While the database is away it is tried again.
    """

    def __init__(self, name: str, work: Callable[[], None], seconds: Callable[[], float]) -> None:
        self._name = name
        self._work = work
        self._seconds = seconds
        self._timer: Timer | None = None
        self._lock = Lock()

    def ask(self) -> None:
        with self._lock:
            if self._timer is None:
                self._timer = Timer(self._seconds(), self._run)
                self._timer.daemon = True
                self._timer.start()

    def cancel(self) -> None:
        """Nothing more is done by itself."""
        with self._lock:
            if self._timer:
                self._timer.cancel()
                self._timer = None

    def _run(self) -> None:
        with self._lock:
            self._timer = None
        try:
            self._work()
        except AnyDatabaseError as error:
            log.warning(f"{self._name} wait to be written", error=str(error).strip())
            self.ask()
        finally:
            connection.close()
