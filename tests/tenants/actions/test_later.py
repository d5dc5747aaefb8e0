"""What a web process writes by itself, some time after it was asked to."""

from threading import Event

import pytest
from django.db import OperationalError

from tenants.actions.later import Later

# A safety net: each event is awaited, none is raced.
PATIENCE = 60


def test_what_is_asked_for_often_is_done_once_by_itself() -> None:
    started: list[float] = []
    done = Event()

    def seconds() -> float:
        started.append(0.0)
        return 3600.0 if len(started) == 1 else 0.0

    later = Later("tests", done.set, seconds)
    for _ in range(5):
        later.ask()
    assert len(started) == 1
    later.cancel()
    later.ask()
    assert done.wait(PATIENCE)


@pytest.mark.parametrize("failures", [0, 2])
def test_it_is_tried_until_the_database_is_back(failures: int) -> None:
    attempts: list[int] = []
    done = Event()

    def work() -> None:
        attempts.append(1)
        if len(attempts) <= failures:
            raise OperationalError("away")
        done.set()

    Later("tests", work, lambda: 0.0).ask()
    assert done.wait(PATIENCE)
    assert len(attempts) == failures + 1
