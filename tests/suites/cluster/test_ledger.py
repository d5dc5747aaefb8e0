"""The ledger of the faults on the cluster: the leader of INGEST dies under load."""

from collections.abc import Iterator

import pytest

from tests.suites.cluster.stage import ClusterStage, LeaderKilled
from tests.suites.faults.drill import Drill
from tests.suites.faults.stage import RESPONSE_SECONDS


@pytest.fixture
def stage() -> Iterator[ClusterStage]:
    whole = ClusterStage(devices=100, agents=3)
    try:
        whole.start()
        yield whole
    finally:
        whole.close()


# Twice ten seconds without the leader, under load, and then the books.
@pytest.mark.long
@pytest.mark.touches("postgres", "redis", "nats")
def test_the_leaders_death_costs_nothing_that_was_acknowledged_and_no_command(
    stage: ClusterStage, capsys: pytest.CaptureFixture[str]
) -> None:
    drill = Drill(stage)
    outcomes = [drill.run(LeaderKilled(), hold=10.0) for _ in range(2)]
    problems = drill.close_the_books(within=RESPONSE_SECONDS + 30.0)
    with capsys.disabled():
        for outcome, name in zip(outcomes, stage.servers.killed, strict=True):
            print(f"\nkilled {name}: {outcome}")
        print(drill.summary())
    assert problems == []
    for outcome in outcomes:
        assert outcome.recovered
        assert outcome.lost == []
