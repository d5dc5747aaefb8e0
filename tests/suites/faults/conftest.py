"""One stage for all faults, quick and long; the books are closed at its end."""

from collections.abc import Iterator

import pytest

from tests.suites.faults.drill import Drill
from tests.suites.faults.stage import Stage

# Of the load, where only the quick faults are run: nothing of them needs more, and the whole takes
# all that two processors have.
QUICK_SHARE = 0.25


# It ends with this folder's tests, as it takes a good part of the machine.
@pytest.fixture(scope="package")
def drill(request: pytest.FixtureRequest) -> Iterator[Drill]:
    whole = any(
        "drill" in item.fixturenames and item.get_closest_marker("long")
        for item in request.session.items
        if isinstance(item, pytest.Function)
    )
    # With fewer a newer report would take a lost one's place before the books are closed.
    stage = Stage(devices=100, agents=2, share=1.0 if whole else QUICK_SHARE)
    try:
        stage.start()
        yield Drill(stage)
    finally:
        stage.close()
