"""`manage.py nats_subscriber` as the process it is: started, waiting, drained."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest
from django.conf import settings as django_settings
from django.db import connection

from devices.models import Connectivity
from natsbridge.models import SubscriberStatus
from natsbridge.status import service_state
from tenants.models import BrokerAccount, BrokerKey, Group
from tests.people import enrol
from tests.system import System, eventually

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(system: System, tmp_path: Path) -> Iterator[Start]:
    """Starts the command on the test's own database; its output goes to `tmp_path / "log"`."""
    started: list[subprocess.Popen[bytes]] = []

    def run(**changes: str) -> subprocess.Popen[bytes]:
        with (tmp_path / "log").open("ab") as log:
            process = _spawn(log, changes)
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()


def _spawn(log: IO[bytes], changes: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "manage.py", "nats_subscriber"],
        cwd=django_settings.BASE_DIR,
        env=os.environ | {"DATABASE_URL": database_url(), "NATS_URL": nats_url()} | changes,
        stdout=subprocess.DEVNULL,
        stderr=log,
        start_new_session=True,
    )


def database_url() -> str:
    base, _, _ = os.environ["DATABASE_URL"].rpartition("/")
    return f"{base}/{connection.settings_dict['NAME']}"


def nats_url() -> str:
    return str(django_settings.NATS_URL)


def end(process: subprocess.Popen[bytes]) -> int:
    process.send_signal(signal.SIGTERM)
    return process.wait(20)


def test_it_serves_until_sigterm_and_then_finishes_what_it_has(
    system: System, start: Start, group_a: Group
) -> None:
    enrolled = enrol(group_a, "anna-laptop")
    process = start()
    eventually(lambda: service_state().connected, within=20)
    eventually(BrokerAccount.objects.exclude(provisioned_at=None).exists)
    agent = system.agent(enrolled)
    for number in range(300):
        agent.heartbeat(session_id=f"beat {number}")
    assert end(process) == 0
    agent.heartbeat(session_id="after it stopped")
    assert not SubscriberStatus.objects.exists(), "it has signed off"
    seen = Connectivity.objects.get(device=enrolled.device).session_id
    assert seen.startswith("beat")
    start()
    eventually(
        lambda: Connectivity.objects.filter(session_id="after it stopped").exists(), within=20
    )


def test_killed_in_the_middle_it_loses_nothing(
    system: System, start: Start, group_a: Group
) -> None:
    enrolled = enrol(group_a, "anna-laptop")
    process = start()
    eventually(BrokerAccount.objects.exclude(provisioned_at=None).exists, within=20)
    agent = system.agent(enrolled)
    for number in range(50):
        agent.report("monitoring", {"monitoring_type": f"m{number}"})
        if number == 25:
            process.kill()
    start()
    eventually(lambda: enrolled.device.realtime_data.count() == 50, within=60)


def test_without_a_broker_it_waits_says_for_what_and_goes_on_when_it_comes(
    system: System, start: Start, tmp_path: Path
) -> None:
    system.server.stop()
    start()
    log = tmp_path / "log"
    eventually(lambda: "waiting for nats-server" in log.read_text(), within=20)
    assert not service_state().connected
    eventually(lambda: service_state().running == 1)
    system.start_server()
    eventually(lambda: service_state().connected, within=20)


def test_without_a_database_it_waits_and_says_so(
    system: System, start: Start, tmp_path: Path
) -> None:
    process = start(DATABASE_URL="postgres://x:y@127.0.0.1:9/none")
    eventually(lambda: "waiting for Postgres" in (tmp_path / "log").read_text(), within=20)
    assert process.poll() is None


def test_without_the_platforms_keys_it_says_what_to_run(
    system: System, start: Start, tmp_path: Path
) -> None:
    BrokerKey.objects.all().delete()
    process = start()
    assert process.wait(20) == 1
    assert "manage.py nats_config" in (tmp_path / "log").read_text()
