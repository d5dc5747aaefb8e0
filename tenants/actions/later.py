"""Delayed work of a web process, which has no loop of its own."""

from collections.abc import Callable
from threading import Lock, Timer

import structlog
from django.db import Error as AnyDatabaseError
from django.db import connection

log = structlog.get_logger(__name__)


class Later:
    """Runs `work` once, `seconds()` after `ask`, in a thread of its own.

    A further `ask` before that changes nothing. While the database is away, it tries again.
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
        """Cancel the work that was asked for."""
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
