"""Pure: which refused logins get a row of their own in the audit, and which are only counted.

The first of its kind is written at once; what equals it within a minute is one more row, with a
count, when the minute is over. Names of ours and names of nobody have a budget of kinds each, so
that a flood of invented names does not push out the refusal of a known device; what is beyond
them is counted together.
"""

from collections import Counter
from typing import NamedTuple
from uuid import UUID

WINDOW_SECONDS = 60.0
KINDS_OF_EACH = 25


class Refusal(NamedTuple):
    """`name` is safe to show; `tenant` is known where the name is one of ours."""

    name: str
    reason: str
    address: str
    tenant: UUID | None = None
    device: UUID | None = None
    rejected: bool = False


OTHERS = Refusal("others", "too many different ones in one minute", "")


class Refusals:
    """`now` is any clock that only goes forward."""

    def __init__(self) -> None:
        self._repeated: Counter[Refusal] = Counter()
        self._seen: set[Refusal] = set()
        self._began = float("-inf")

    def note(self, refusal: Refusal, now: float) -> bool:
        """Whether it is to be written at once; else it is counted."""
        if not self._seen:
            self._began = now
        if refusal in self._seen:
            self._repeated[refusal] += 1
            return False
        known = refusal.tenant is not None
        if sum((each.tenant is not None) == known for each in self._seen) >= KINDS_OF_EACH:
            self._repeated[OTHERS] += 1
            return False
        self._seen.add(refusal)
        return True

    def is_over(self, now: float) -> bool:
        """Whether the minute is; then what has been counted is to be written, and cleared."""
        return bool(self._seen) and now - self._began >= WINDOW_SECONDS

    def counted(self) -> list[tuple[Refusal, int]]:
        return list(self._repeated.items())

    def clear(self) -> None:
        """A new minute begins with the next one."""
        self._repeated.clear()
        self._seen.clear()
