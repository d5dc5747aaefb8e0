"""One stage for all faults, quick and long; the books are closed at its end."""

from collections.abc import Iterator

import pytest

from tests.suites.faults.drill import Drill
from tests.suites.faults.stage import Stage


# It ends with this folder's tests, as it takes a good part of the machine.
@pytest.fixture(scope="package")
def drill() -> Iterator[Drill]:
    # With fewer a newer report would take a lost one's place before the books are closed.
    stage = Stage(devices=100, agents=2)
    try:
        stage.start()
        yield Drill(stage)
    finally:
        stage.close()
