"""Coalesce repeated events: log the first at once, then one count a minute.

The counts go on each minute until there was no event. Each group has a budget of kinds, so that a
flood of invented ones does not push out those of another group; kinds beyond it are counted as the
group's others.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from threading import RLock
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

WINDOW_SECONDS = 60.0
KINDS_OF_EACH = 25


class Coalescer(Generic[Key]):
    """Counts events by kind. Threads may share an instance.

    `others` returns the kind under which the surplus of a group is counted; kinds with the same one
    are a group. `now` is any clock that only goes forward.
    """

    def __init__(self, *, others: Callable[[Key], Key]) -> None:
        self._others = others
        self._seen: set[Key] = set()
        self._kinds: Counter[Key] = Counter()
        self._repeated: Counter[Key] = Counter()
        self._began = 0.0
        self._lock = RLock()

    def admit(self, key: Key, now: float) -> bool:
        """Return whether to log the event at once; otherwise count it."""
        return self.count_under(key, now) is None

    def count_under(self, key: Key, now: float) -> Key | None:
        """Return the kind under which the event was counted, or None to log it at once.

        That is its own kind, or its group's others.
        """
        with self._lock:
            kinds = self.plan([key])
            self.count([key], kinds, now)
        return kinds[0]

    def plan(self, keys: Iterable[Key]) -> list[Key | None]:
        """Return for each key what `count_under` would, and count nothing yet."""
        first, kinds, planned = set[Key](), Counter[Key](), list[Key | None]()
        with self._lock:
            for key in keys:
                group = self._others(key)
                if key in self._seen or key in first:
                    planned.append(key)
                elif self._kinds[group] + kinds[group] >= KINDS_OF_EACH:
                    planned.append(group)
                else:
                    first.add(key)
                    kinds[group] += 1
                    planned.append(None)
        return planned

    def count(self, keys: Iterable[Key], planned: Iterable[Key | None], now: float) -> None:
        """Count keys as `plan` has said."""
        with self._lock:
            for key, kind in zip(keys, planned, strict=True):
                if not self._seen:
                    self._began = now
                if kind is not None:
                    self._repeated[kind] += 1
                elif key not in self._seen:
                    self._seen.add(key)
                    self._kinds[self._others(key)] += 1

    @contextmanager
    def due(self, now: float, *, at_once: bool = False) -> Iterator[list[tuple[Key, int]]]:
        """Give what has been counted, once the minute is over, to be logged inside the block.

        After an error in the block the counts are kept for later.
        """
        with self._lock:
            counted = Counter[Key]()
            if at_once or now - self._began >= WINDOW_SECONDS:
                counted, self._repeated = self._repeated, counted
                self._seen = set(counted)
                self._kinds = Counter(map(self._others, counted))
                self._began = now
        try:
            yield list(counted.items())
        except BaseException:
            with self._lock:
                self._repeated.update(counted)
            raise
