"""One run of `manage.py quickstart` for all tests of the whole system, as a newcomer has it."""

from collections.abc import Iterator

import pytest

from tests.support.chromium import Chromium
from tests.support.waiting import SAFETY_NET
from tests.wegweiser.quickstart.running import Quickstart, remember_free_ports


# It ends with this folder's tests, as it takes a good part of the machine.
@pytest.fixture(scope="package")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Quickstart]:
    home = tmp_path_factory.mktemp("whole") / "home"
    home.mkdir()
    remember_free_ports(home)
    run = Quickstart(home)
    try:
        run.wait_until_up()
        yield run
    finally:
        if run.process.poll() is None:
            run.stop()
        run.process.communicate(timeout=SAFETY_NET)


@pytest.fixture
def browser(chromium: Chromium, whole: Quickstart) -> Iterator[Chromium]:
    with chromium.in_use(whole.running["url"]) as browser:
        yield browser
