"""`manage.py nats_subscriber` as the process it is: started, waiting, drained."""

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

import pytest
from django.conf import settings as django_settings
from django.core.management import CommandError, call_command
from django.db import connection
from pytest_django.fixtures import Settings

from devices.models import Connectivity
from devices.telemetry import ring_buffers
from natsbridge.identity import nkeys
from natsbridge.models import SubscriberStatus
from natsbridge.subscriber import status
from natsbridge.subscriber.status import service_state
from tenants.credentials.issue import issue_device_password
from tenants.models import BrokerAccount, BrokerKey, Group, Tenant
from tenants.rules import secrets
from tests.support.people import enrol
from tests.support.system import System, eventually
from tests.support.waiting import SAFETY_NET

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(system: System, tmp_path: Path) -> Iterator[Start]:
    """Starts the command on the test's own database; its output goes to `tmp_path / "log"`."""
    started: list[subprocess.Popen[bytes]] = []

    def run(*arguments: str, **changes: str) -> subprocess.Popen[bytes]:
        with (tmp_path / "log").open("ab") as log:
            process = _spawn(log, arguments, changes)
        started.append(process)
        return process

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()


def _spawn(
    log: IO[bytes], arguments: Sequence[str], changes: dict[str, str]
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "manage.py", "nats_subscriber", *arguments],
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


def end_process(process: subprocess.Popen[bytes]) -> int:
    process.send_signal(signal.SIGTERM)
    return process.wait(SAFETY_NET)


def test_it_serves_until_sigterm_and_then_finishes_what_it_has(
    system: System, start: Start, group_a: Group
) -> None:
    enrolled = enrol(group_a, "anna-laptop")
    process = start()
    eventually(lambda: service_state().connected)
    eventually(BrokerAccount.objects.exclude(provisioned_at=None).exists)
    agent = system.agent(enrolled)
    for number in range(300):
        agent.heartbeat(session_id=f"beat {number}")
    assert end_process(process) == 0
    agent.heartbeat(session_id="after it stopped")
    assert not SubscriberStatus.objects.exists(), "it has signed off"
    seen = Connectivity.objects.get(device=enrolled.device).session_id
    assert seen.startswith("beat")
    start()
    eventually(lambda: Connectivity.objects.filter(session_id="after it stopped").exists())


def test_killed_in_the_middle_it_loses_nothing(
    system: System, start: Start, group_a: Group
) -> None:
    enrolled = enrol(group_a, "anna-laptop")
    process = start()
    eventually(BrokerAccount.objects.exclude(provisioned_at=None).exists)
    agent = system.agent(enrolled)
    for number in range(50):
        agent.report("monitoring", {"monitoring_type": f"m{number}"})
        if number == 25:
            process.kill()
    start()
    eventually(lambda: enrolled.device.realtime_data.count() == 50)


def test_without_a_broker_it_waits_says_for_what_and_goes_on_when_it_comes(
    system: System, start: Start, tmp_path: Path
) -> None:
    system.server.stop()
    start()
    log = tmp_path / "log"
    eventually(lambda: "waiting for nats-server" in log.read_text())
    assert not service_state().connected
    eventually(lambda: service_state().running == 1)
    system.start_server()
    eventually(lambda: service_state().connected)


def test_without_a_database_it_waits_and_says_so(
    system: System, start: Start, tmp_path: Path
) -> None:
    process = start(DATABASE_URL="postgres://x:y@127.0.0.1:9/none")
    eventually(lambda: "waiting for Postgres" in (tmp_path / "log").read_text())
    assert process.poll() is None


def test_without_redis_it_says_so_and_serves(system: System, start: Start, tmp_path: Path) -> None:
    start(REDIS_URL="redis://127.0.0.1:9/0")
    eventually(lambda: service_state().connected)
    assert "waiting for Redis" in (tmp_path / "log").read_text()


def test_before_migrate_it_says_what_to_run(system: System, start: Start, tmp_path: Path) -> None:
    base, _, _ = os.environ["DATABASE_URL"].rpartition("/")
    process = start(DATABASE_URL=f"{base}/template1")
    assert process.wait(SAFETY_NET) == 1
    text = (tmp_path / "log").read_text()
    assert "manage.py migrate" in text
    assert "Traceback" not in text


def test_sigterm_ends_it_although_postgres_hangs(
    system: System, start: Start, tmp_path: Path
) -> None:
    process = start()
    eventually(lambda: service_state().connected)
    backends = _backends()
    for pid in backends:
        os.kill(pid, signal.SIGSTOP)
    try:
        process.send_signal(signal.SIGTERM)
        assert process.wait(SAFETY_NET) == 0
    finally:
        for pid in backends:
            os.kill(pid, signal.SIGCONT)
    assert "leaving threads that hang" in (tmp_path / "log").read_text()


def test_sigterm_ends_tasks_that_wait_for_the_broker(
    system: System, start: Start, tmp_path: Path
) -> None:
    # The server trusts another system account, so the tasks that ask it wait for their connection.
    stranger = nkeys.generate("account")
    seed = secrets.encrypt(stranger.seed, django_settings.FIELD_ENCRYPTION_KEYS)
    keys = BrokerKey.objects.filter(purpose=BrokerKey.Purpose.SYSTEM)
    keys.update(public_key=stranger.public, seed_encrypted=seed)
    process, log = start(), tmp_path / "log"
    eventually(lambda: service_state().connected)
    for part in ("accounts", "commands", "connection limit", "floods", "presence sweep"):
        waiting = re.compile(f"waiting for nats-server.*{part}")
        eventually(lambda waiting=waiting: waiting.search(log.read_text()))
    system.server.stop()
    assert end_process(process) == 0
    assert "did not finish in time" not in log.read_text()


def _backends() -> list[int]:
    """The server's processes that serve the subscriber."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return [pid for (pid,) in cursor.fetchall()]


def test_only_some_parts_run_when_told_so(
    system: System, start: Start, tenant_a: Tenant, tmp_path: Path
) -> None:
    process = start("--only", "auth", "accounts")
    eventually(BrokerAccount.objects.exclude(provisioned_at=None).exists)
    issued = issue_device_password(tenant_a.pk, uuid.uuid4())
    assert system.lets_in_by_password(issued.username, issued.secret)
    assert not system.lets_in_by_password(issued.username, "wrong")
    assert not system.ingest_exists()
    assert "parts=['accounts', 'auth', 'due endings']" in (tmp_path / "log").read_text()
    assert end_process(process) == 0


def test_an_unknown_part_is_named_beside_those_to_choose_from() -> None:
    with pytest.raises(CommandError, match=r"part: authentication. Choose from: .*\bauth\b"):
        call_command("nats_subscriber", only=["auth", "authentication"])


def test_dead_letters_are_counted_by_their_reason(
    system: System, group_a: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "BEAT_SECONDS", 0.2)
    agent = system.running_agent(enrol(group_a, "anna-laptop"))
    agent.report("monitoring", b"{no json")
    eventually(lambda: _counters().get("dead_letters.malformed_json") == 1)


def _counters() -> dict[str, int]:
    row = SubscriberStatus.objects.first()
    return row.details.get("counters", {}) if row else {}


def test_two_at_once_store_what_each_device_sends(system: System, group_a: Group) -> None:
    enrolled = [enrol(group_a, f"laptop-{number}") for number in range(3)]
    agents = [system.running_agent(enrolled[0])]
    system.start_subscriber()
    eventually(lambda: service_state().running == 1 and service_state().connected)
    agents += [system.agent(each) for each in enrolled[1:]]
    for agent in agents:
        agent.report_all("monitoring", [{"monitoring_type": f"m{n}"} for n in range(100)])
    for each, agent in zip(enrolled, agents, strict=True):
        for number in range(20):
            agent.stream_metric("uptime", {"value": number})
        agent.heartbeat(session_id=f"last of {agent.device}")
        eventually(lambda device=each.device: device.realtime_data.count() == 100)
        eventually(
            Connectivity.objects.filter(
                device=each.device, session_id=f"last of {agent.device}"
            ).exists
        )
    time.sleep(0.5)  # for a point that would come twice
    for each in enrolled:
        points = ring_buffers.recent(each.device.pk)["uptime"]
        assert sorted(point["value"] for point in points) == list(range(20))


def test_without_ingest_it_is_not_connected(
    system: System, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "BEAT_SECONDS", 0.2)
    settings.INGEST_MAX_BYTES = 2**62
    system.start_subscriber()
    eventually(lambda: service_state().running)
    eventually(lambda: SubscriberStatus.objects.filter(details__has_key="ingest").exists())
    assert not service_state().connected


def test_without_the_platforms_keys_it_says_what_to_run(
    system: System, start: Start, tmp_path: Path
) -> None:
    BrokerKey.objects.all().delete()
    process = start()
    assert process.wait(SAFETY_NET) == 1
    assert "manage.py nats_config" in (tmp_path / "log").read_text()
