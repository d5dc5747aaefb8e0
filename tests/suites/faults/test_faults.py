"""Every part is killed, frozen, restarted and cut off under load: nothing acknowledged is lost.

In the order in which they stand here, on one stage; the last test closes the books.
"""

import pytest

from tests.suites.faults.drill import (
    CATCHING_UP,
    CHOSEN_PAIRS,
    EVERY_FAULT,
    Drill,
    Fault,
    Kind,
    random_pairs,
)
from tests.suites.faults.stage import RESPONSE_SECONDS

pytestmark = pytest.mark.touches("postgres", "redis", "nats")

# One of each kind. What a killed subscriber had taken is nobody's for ten seconds, so it comes
# first, and the others go on meanwhile.
QUICK = (
    CHOSEN_PAIRS[0],
    (Fault("nats-server", Kind.RESTART),),
    (Fault("Redis", Kind.CUT),),
)


# Up to six seconds each, most of them the fault and the recovery.
@pytest.mark.parametrize("faults", QUICK, ids=lambda faults: ", ".join(map(str, faults)))
def test_all_goes_on_after_one_fault_of_each_kind(drill: Drill, faults: tuple[Fault, ...]) -> None:
    outcome = drill.run(*faults, hold=2.0, apart=2.0 + CATCHING_UP, steady=1.0, look=False)
    assert outcome.recovered, outcome


# Ten seconds each, some twenty with the recovery, under load.
@pytest.mark.long
@pytest.mark.parametrize("fault", EVERY_FAULT, ids=str)
def test_every_part_survives_every_fault(drill: Drill, fault: Fault) -> None:
    outcome = drill.run(fault, hold=10.0)
    assert outcome.recovered, outcome
    assert outcome.lost == []


# As above, with two at once.
@pytest.mark.long
@pytest.mark.parametrize(
    "pair", [*CHOSEN_PAIRS, *random_pairs(6, seed=1)], ids=lambda pair: f"{pair[0]}, {pair[1]}"
)
def test_two_parts_at_once_survive_their_faults(drill: Drill, pair: tuple[Fault, Fault]) -> None:
    outcome = drill.run(*pair, hold=10.0, apart=1.5)
    assert outcome.recovered, outcome
    assert outcome.lost == []


def test_nothing_acknowledged_was_lost_and_every_command_ended_and_ran_at_most_once(
    drill: Drill,
) -> None:
    assert drill.close_the_books(within=RESPONSE_SECONDS + 20.0) == []
    # That there was load at all: how much of it there is, the machine decides.
    assert all(drill.ledger.totals[name] for name in ("beat", "report", "answer"))
