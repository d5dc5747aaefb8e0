"""Schedule the messages that recent flooders have left at the broker.

A flooder that was disconnected leaves thousands of messages there. Handled as fast as they can be
read, they would hold up its neighbours as the flood itself did.
"""

import math
from dataclasses import dataclass

from natsbridge.rules.shares import Sender

# How long a flooder is remembered after it was last disconnected.
REMEMBERED_SECONDS = 60.0
# How many messages of one flooder are handled a second.
RATE = 100.0
# No message is delayed for longer; what a lane has no room for is handled in turn.
LONGEST_SECONDS = 120.0
# No message is delayed for less: that would not be worth reading it twice.
SHORTEST_SECONDS = 1.0


@dataclass
class _Lane:
    until: float
    # When its next message has its turn.
    next: float = 0.0


class SlowLane:
    """One lane for each recent flooder; `now` is of any clock that only goes forward."""

    def __init__(self) -> None:
        self._lanes: dict[Sender, _Lane] = {}

    def add(self, flooder: Sender, now: float) -> None:
        self._lanes = {sender: lane for sender, lane in self._lanes.items() if lane.until > now}
        self._lanes.setdefault(flooder, _Lane(now)).until = now + REMEMBERED_SECONDS

    def __contains__(self, sender: Sender) -> bool:
        """Return whether it may be a flooder: a cheap filter for every message that is read."""
        return sender in self._lanes

    def is_in_use(self, now: float) -> bool:
        return any(lane.until > now for lane in self._lanes.values())

    def delay(self, sender: Sender, now: float) -> float:
        """Return by how many seconds to delay a message that comes for the first time.

        Return 0 if its sender has not flooded, or if the sender's lane is full.
        """
        lane = self._lanes.get(sender)
        if lane is None or lane.until <= now:
            return 0.0
        turn = max(lane.next, now + SHORTEST_SECONDS)
        if turn > now + LONGEST_SECONDS:
            return 0.0
        lane.next = turn + 1 / RATE
        # The messages of one second come together, since a batch costs more than a message.
        return math.ceil(turn) - now
