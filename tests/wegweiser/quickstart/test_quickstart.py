"""`manage.py quickstart` from outside, as `make run` starts it."""

import os
import signal
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.waiting import SAFETY_NET
from tests.wegweiser.quickstart.running import Quickstart, remember_free_ports
from wegweiser.quickstart.loopback import get
from wegweiser.quickstart.ports import LOOPBACK
from wegweiser.quickstart.state import Running

KEYS = {
    "url",
    "admin_username",
    "admin_password",
    "api_token",
    "tenant_uuid",
    "group_uuid",
    "enrollment_key",
    "device_uuid",
    "nats_url",
    "nats_monitor_url",
}

pytestmark = pytest.mark.touches("postgres", "redis", "nats")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One home for all tests, since only its first run makes the database and all tables."""
    home = tmp_path_factory.mktemp("quickstart") / "home"
    home.mkdir()
    remember_free_ports(home)
    return home


@pytest.fixture
def run(home: Path) -> Iterator[Callable[[], Quickstart]]:
    """Starts a run on the home; what still runs at the end of the test is stopped."""
    started: list[Quickstart] = []

    def start() -> Quickstart:
        started.append(Quickstart(home))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.stop()
        each.process.communicate(timeout=SAFETY_NET)


def metrics_of(running: dict[str, str]) -> dict[str, list[object]]:
    port = int(running["url"].rpartition(":")[2])
    path = f"/api/nats/device/{running['device_uuid']}/metrics/recent"
    answer = get(port, path, {"Authorization": f"Token {running['api_token']}"})
    assert answer.status == 200, answer
    metrics: dict[str, list[object]] = answer.json()["metrics"]
    return metrics


def test_it_runs_until_sigterm_and_goes_on_where_it_left_off(
    home: Path, run: Callable[[], Quickstart]
) -> None:
    first = run()
    running = first.wait_until_up()
    assert running.keys() == KEYS
    assert all(running.values())
    assert stat.S_IMODE(Running.path(home).stat().st_mode) == 0o600
    listening = {
        connection.laddr.ip
        for part in first.parts
        for connection in part.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {LOOPBACK}
    while "cpu_percent" not in metrics_of(running):
        time.sleep(0.1)
    assert "log_size_limit: " in (home / "nats" / "nats-server.conf").read_text()
    assert "Server is ready" in (home / "logs" / "nats-server.log").read_text()

    refused = run()
    assert f"already runs on {home}" in refused.output()
    assert refused.process.returncode != 0

    assert first.stop() == 0
    assert first.parts_left() == []
    assert {each.name for each in home.parent.iterdir()} == {"home"}, "nothing beside the home"
    output = first.output()
    assert running["admin_password"] in output
    assert output.index("Stopping agent") < output.index("Stopping Postgres")

    second = run()
    assert second.wait_until_up() == running
    assert metrics_of(running)["cpu_percent"]


def test_after_sigkill_the_next_run_cleans_up_and_a_part_that_dies_is_named(
    home: Path, run: Callable[[], Quickstart]
) -> None:
    first = run()
    running = first.wait_until_up()
    first.process.kill()

    second = run()
    assert second.wait_until_up()["device_uuid"] == running["device_uuid"]
    assert first.parts_left() == []

    os.kill(second.pid_of("web"), signal.SIGKILL)
    output = second.output()
    assert second.process.returncode != 0
    assert "web ended by itself (signal SIGKILL)" in output
    assert str(home / "logs" / "web.log") in output
    assert second.parts_left() == []
