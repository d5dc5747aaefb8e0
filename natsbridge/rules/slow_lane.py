"""Pure: who has flooded of late, and when each message that it has left behind is to be taken.

A flooder that was disconnected leaves thousands of messages at the broker. Handled as fast as they
can be read, they would take from its neighbours what the flood itself took before.
"""

import math
from dataclasses import dataclass

from natsbridge.rules.shares import Sender

# After it was last disconnected.
REMEMBERED_SECONDS = 60.0
# So many of one flooder come a second.
RATE = 100.0
# Nothing is put off for longer; what a lane has no room for is taken in turn.
LONGEST_SECONDS = 120.0
# What is put off comes again no sooner, as sooner is not worth its being read twice.
SHORTEST_SECONDS = 1.0


@dataclass
class _Lane:
    until: float
    # When its next message has its turn.
    next: float = 0.0


class SlowLane:
    """`now` is any clock that only goes forward, in seconds."""

    def __init__(self) -> None:
        self._lanes: dict[Sender, _Lane] = {}

    def add(self, flooder: Sender, now: float) -> None:
        self._lanes = {sender: lane for sender, lane in self._lanes.items() if lane.until > now}
        self._lanes.setdefault(flooder, _Lane(now)).until = now + REMEMBERED_SECONDS

    def __contains__(self, sender: Sender) -> bool:
        """Whether it may be one; cheap, for every message that is read."""
        return sender in self._lanes

    def is_in_use(self, now: float) -> bool:
        return any(lane.until > now for lane in self._lanes.values())

    def delay(self, sender: Sender, now: float) -> float:
        """Return for how many seconds a message that came for the first time is put off. 0: it is
        nobody that has flooded, or its lane is full."""
        lane = self._lanes.get(sender)
        if lane is None or lane.until <= now:
            return 0.0
        turn = max(lane.next, now + SHORTEST_SECONDS)
        if turn > now + LONGEST_SECONDS:
            return 0.0
        lane.next = turn + 1 / RATE
        # Those of a second together, since a batch costs more than a message.
        return math.ceil(turn) - now
