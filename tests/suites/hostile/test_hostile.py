"""Nothing that can be sent stops the subscriber: each message that the broker took is stored, or
a dead letter with its reason."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import IO, Self

import psutil
import pytest
from django.conf import settings as django_settings
from django.db.models import Count
from pytest_django.fixtures import Settings

from devices.models import Connectivity, Device
from natsbridge.models import DeadLetter, SubscriberStatus
from natsbridge.subscriber.status import service_state
from tenants.models import BrokerAccount, Group
from tests.devices.test_nats_subscriber import database_url
from tests.suites.hostile.fire import Gun
from tests.suites.hostile.messages import HONEST, Generator
from tests.support.people import enrol
from tests.support.system import System, eventually
from tests.support.waiting import SAFETY_NET

SEED = int(os.environ.get("HOSTILE_SEED", "1"))
MANY = int(os.environ.get("HOSTILE_MESSAGES", "100000"))
# Few enough at a time that no device has more than the ten that LATEST keeps of a kind, nor one
# reason more than the dead-letter queue keeps of an account.
BATCH = 1_000
DEVICES = 60
MEGABYTE = 1024**2
# How much the second half of a long run may add: what comes with allocation, not with each message.
GROWTH = 12 * MEGABYTE
PARTS = ("ingest", "latest")


class Process:
    """`manage.py nats_subscriber` on the test's own database."""

    def __init__(self, log: Path) -> None:
        self._log = log

    def __enter__(self) -> Self:
        with self._log.open("ab") as log:
            self._start(log)
        eventually(lambda: service_state().connected)
        return self

    def _start(self, log: IO[bytes]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "manage.py", "nats_subscriber"],
            cwd=django_settings.BASE_DIR,
            env=os.environ
            | {
                "DATABASE_URL": database_url(),
                "NATS_URL": django_settings.NATS_URL,
                "DEAD_LETTER_MESSAGES_MAX": str(10 * MANY),
                "DEAD_LETTER_BYTES_MAX": str(8 * 1024**3),
                # Who sends them so fast is not what this is about.
                "DEVICE_MESSAGES_PER_SECOND": "100000",
                "DEVICE_BYTES_PER_SECOND": str(1024**3),
            },
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
        )

    def __exit__(self, *problem: object) -> None:
        self._process.kill()
        self._process.wait()

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    @property
    def size(self) -> int:
        resident: int = psutil.Process(self._process.pid).memory_info().rss
        return resident


class Attack:
    """All that is sent, and what becomes of it."""

    def __init__(self, system: System, group: Group, devices: list[Device]) -> None:
        accounts = BrokerAccount.objects.filter(tenant=group.tenant)
        eventually(accounts.exclude(provisioned_at=None).exists)
        self._system = system
        agent = system.agent(enrol(group, "attacker"))
        self._gun = Gun(system.thread, system.tenant_agent(agent))
        self._generator = Generator(SEED, group.tenant_id, [device.pk for device in devices])
        self._began = time.monotonic()

    def once(self) -> None:
        """One batch; returns when nothing of it waits any more."""
        self._gun.fire(self._generator.batch(BATCH))
        eventually(self._nothing_waits)

    def _nothing_waits(self) -> bool:
        url = f"{self._system.server.monitor_url}/jsz?streams=true&consumers=true&accounts=true"
        with urllib.request.urlopen(url, timeout=SAFETY_NET) as answer:
            accounts = json.load(answer)["account_details"]
        streams = {each["name"]: each for one in accounts for each in one.get("stream_detail", [])}
        mirror = streams["DLQ"]["consumer_detail"][0]
        waiting = sum(streams[name]["state"]["messages"] for name in ("INGEST", "LATEST"))
        return not waiting and not mirror["num_pending"] and not mirror["num_ack_pending"]

    def close_the_books(self) -> str:
        """Fails unless everything that was taken is accounted for; the figures."""
        taken = sum(self._gun.taken.values())
        seconds = time.monotonic() - self._began
        handled: dict[str, int] = {}
        reasons: Counter[str] = Counter()
        dead_letters: dict[str, int] = {}

        def agrees() -> bool:
            """A message is counted before its dead letters are: one status may lack that."""
            nonlocal handled, reasons, dead_letters
            handled = self._handled(taken) or {}
            reasons = Counter(
                dict(DeadLetter.objects.order_by().values_list("reason").annotate(Count("pk")))
            )
            dead_letters = {
                name.removeprefix("dead_letters."): number
                for name, number in handled.items()
                if name.startswith("dead_letters.")
            }
            return bool(handled) and reasons == dead_letters

        eventually(agrees)
        assert not reasons["failed"], "what is wrong with a message is known before it is written"
        assert not any(handled.get(f"{part}.dead_letters_unpublished") for part in PARTS)
        wronged = DeadLetter.objects.extra(
            where=["position(%s in body) > 0"], params=[f'"agent_version": "{HONEST}"'.encode()]
        )
        assert not wronged.exists(), "an honest message suffers nothing"
        assert Connectivity.objects.filter(agent_version=HONEST).exists()
        return "\n".join(
            [
                f"\n{taken} taken in {seconds:.0f} s (seed {SEED}): "
                f"{taken - sum(dead_letters.values())} stored, "
                f"{sum(dead_letters.values())} dead letters",
                f"dead letters: {dict(reasons.most_common())}",
                f"refused by the broker: {dict(self._gun.refused.most_common())}",
                f"taken: {dict(self._gun.taken.most_common())}",
            ]
        )

    def _handled(self, taken: int) -> dict[str, int] | None:
        """The subscriber's own counts, once it has counted as many as were taken."""
        counters: dict[str, int] = SubscriberStatus.objects.get().details["counters"]
        handled = sum(counters.get(f"{part}.messages", 0) for part in PARTS)
        return counters if handled == taken else None


@pytest.fixture
def devices(group_a: Group, settings: Settings) -> list[Device]:
    settings.DEAD_LETTER_MESSAGES_MAX = 10 * MANY
    settings.DEAD_LETTER_BYTES_MAX = 8 * 1024**3
    return [enrol(group_a, f"device-{number}").device for number in range(DEVICES)]


def test_two_thousand_hostile_messages_are_stored_or_dead_letters(
    system: System,
    group_a: Group,
    devices: list[Device],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("natsbridge.subscriber.status.BEAT_SECONDS", 0.5)
    system.start_subscriber()
    attack = Attack(system, group_a, devices)
    for _ in range(2):
        attack.once()
    figures = attack.close_the_books()
    with capsys.disabled():
        print(figures)


# Some minutes of nothing else.
@pytest.mark.long
def test_a_hundred_thousand_hostile_messages_leak_nothing(
    system: System,
    group_a: Group,
    devices: list[Device],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sizes = []
    with Process(tmp_path / "log") as process:
        attack = Attack(system, group_a, devices)
        for _ in range(MANY // BATCH):
            attack.once()
            sizes.append(process.size)
        assert process.is_running
        figures = attack.close_the_books()
    half = len(sizes) // 2
    growth = max(sizes[half:]) - max(sizes[:half])
    with capsys.disabled():
        megabytes = [f"{size / MEGABYTE:.0f}" for size in sizes[:: max(len(sizes) // 10, 1)]]
        print(figures)
        print(f"resident megabytes, from the first batch to the last: {', '.join(megabytes)}")
        print(f"the second half added {growth / MEGABYTE:.1f} MB to the highest")
    assert growth < GROWTH
