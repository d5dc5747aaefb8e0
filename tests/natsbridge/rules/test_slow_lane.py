"""What a flooder has left behind comes in slowly, and nobody else waits."""

from collections import Counter

from natsbridge.rules.shares import Sender
from natsbridge.rules.slow_lane import (
    LONGEST_SECONDS,
    RATE,
    REMEMBERED_SECONDS,
    SHORTEST_SECONDS,
    SlowLane,
)

FLOODER, OTHER, NEIGHBOUR = Sender("A", "1"), Sender("A", "2"), Sender("B", "3")
NOW = 1_000.0


def slowed(*flooders: Sender) -> SlowLane:
    lane = SlowLane()
    for each in flooders:
        lane.add(each, NOW)
    return lane


def test_the_messages_of_a_flooder_come_again_so_many_a_second_and_those_together() -> None:
    lane = slowed(FLOODER)
    delays = [lane.delay(FLOODER, NOW) for _ in range(1_000)]
    assert delays == sorted(delays)
    assert delays[0] >= SHORTEST_SECONDS
    together = list(Counter(delays).values())[1:-1]
    assert all(abs(number - RATE) <= 1 for number in together)
    assert all((NOW + delay).is_integer() for delay in delays)


def test_nobody_else_is_put_off() -> None:
    lane = slowed(FLOODER, OTHER)
    assert lane.is_in_use(NOW)
    assert NEIGHBOUR not in lane
    assert lane.delay(NEIGHBOUR, NOW) == 0
    assert lane.delay(FLOODER, NOW) == lane.delay(OTHER, NOW)


def test_what_a_lane_has_no_room_for_is_not_put_off() -> None:
    lane = slowed(FLOODER)
    room = round((LONGEST_SECONDS - SHORTEST_SECONDS) * RATE) + 1
    delays = [lane.delay(FLOODER, NOW) for _ in range(room + 100)]
    assert 0 < max(delays) <= LONGEST_SECONDS
    assert delays[room:] == [0.0] * 100


def test_who_has_not_flooded_for_a_while_is_as_good_as_anybody() -> None:
    lane = slowed(FLOODER)
    later = NOW + REMEMBERED_SECONDS
    assert lane.delay(FLOODER, later) == 0
    assert not lane.is_in_use(later)
    lane.add(OTHER, later)
    assert FLOODER not in lane
