"""Pure: what happens by the thousand, told in few words and counted in full."""

from collections import Counter
from collections.abc import Hashable
from threading import Lock
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class Tally(Generic[Key]):
    """Of n equal events within a window about log2(n) are due at once, each standing for those
    since the one before; what is left is due when the next window begins. With more than
    `max_keys` kinds, the further ones are all told as `overflow`."""

    def __init__(self, *, window: float, max_keys: int, overflow: Key) -> None:
        self._window = window
        self._max_keys = max_keys
        self._overflow = overflow
        self._seen: Counter[Key] = Counter()
        self._told: Counter[Key] = Counter()
        self._began = 0.0
        self._lock = Lock()

    def count(self, key: Key, now: float) -> list[tuple[Key, int]]:
        """What is due now that one more has happened: of each kind, how many."""
        with self._lock:
            due = []
            if now - self._began >= self._window:
                due = [(each, n) for each, n in (self._seen - self._told).items()]
                self._seen.clear()
                self._told.clear()
                self._began = now
            if key not in self._seen and len(self._seen) >= self._max_keys:
                key = self._overflow
            self._seen[key] += 1
            if self._seen[key] >= 2 * self._told[key]:
                due.append((key, self._seen[key] - self._told[key]))
                self._told[key] = self._seen[key]
        return due
