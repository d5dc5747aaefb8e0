"""How the person, or whatever started us, makes us stop."""

import os
import signal
from types import FrameType

import psutil

from wegweiser.quickstart.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruption:
    """Signals only set a flag, so that no child is lost between its start and our note of it.

    Under `make run` the end of make counts too: it cannot pass on a SIGKILL.
    """

    def __init__(self) -> None:
        self._signal: signal.Signals | None = None
        self._make = ancestor_make()
        for number in SIGNALS:
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._signal = signal.Signals(number)

    def check(self) -> None:
        """Raises Interrupted once we are to stop."""
        if self._signal is not None:
            raise Interrupted(f"{self._signal.name} received")
        if self._make is not None and has_ended(self._make):
            raise Interrupted("the make that started this has ended")


def ancestor_make() -> psutil.Process | None:
    """The make we were started by, if any."""
    if "MAKELEVEL" not in os.environ:
        return None
    for ancestor in psutil.Process().parents():
        if ancestor.name() in ("make", "gmake"):
            return ancestor
    return None


def has_ended(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
