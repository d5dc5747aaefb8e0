"""What a device's flood costs its neighbours. Run by `make bench`.

Each flood is aimed at an unrelated nats-server first, which shows what its sender takes of the
machine, and then at ours. FLOODS="heartbeat,metrics" chooses, FLOOD_SECONDS says how long each is.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.conf import settings as django_settings

from devices.models import Command
from natsbridge.models import SubscriberStatus
from tenants.credentials.issue import issue_tenant_credential
from tenants.models import BrokerAccount, Credential, Group, Tenant, User
from tests.devices.test_nats_subscriber import database_url
from tests.plugin import allot_port
from tests.suites.floods.kinds import BY_NAME, FLOODS, RATE, Flood, Report, Target, flooding
from tests.suites.floods.neighbours import Heartbeats, Neighbour
from tests.support.broker import StartNats
from tests.support.people import Enrolled, enrol
from tests.support.system import System, eventually, parse_credentials

SECONDS = float(os.environ.get("FLOOD_SECONDS", "12"))
RATE_ASKED = float(os.environ.get("FLOOD_RATE", RATE))
CHOSEN = [name for name in os.environ.get("FLOODS", "").split(",") if name]
CALM = 3.0

Say = Callable[[str], None]


@pytest.fixture
def say(request: pytest.FixtureRequest) -> Say:
    write: Callable[[str], None] = request.config.get_terminal_writer().line
    return lambda text: write(f"  {text}")


@pytest.fixture
def subscriber(system: System, tmp_path: Path) -> Iterator[None]:
    """In a process of its own, as in production."""
    with (tmp_path / "subscriber.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "nats_subscriber"],
            cwd=django_settings.BASE_DIR,
            env=os.environ | {"DATABASE_URL": database_url(), "NATS_URL": django_settings.NATS_URL},
            stderr=log,
            start_new_session=True,
        )
    eventually(lambda: SubscriberStatus.objects.filter(connected=True).exists(), within=60)
    yield
    process.terminate()
    process.wait(30)
    if os.environ.get("FLOOD_LOG"):
        Path(os.environ["FLOOD_LOG"]).write_bytes((tmp_path / "subscriber.log").read_bytes())


@pytest.fixture
def unrelated(start_nats: StartNats) -> int:
    port, monitor = allot_port(), allot_port()
    start_nats(
        f"host: 127.0.0.1\nport: {port}\nhttp: 127.0.0.1:{monitor}\n",
        port=port,
        monitor_port=monitor,
    )
    return port


@pytest.fixture
def neighbour(system: System, subscriber: None, group_b: Group) -> Iterator[Neighbour]:
    enrolled = enrol(group_b, "neighbour")
    accounts = BrokerAccount.objects.filter(tenant=group_b.tenant_id)
    eventually(accounts.exclude(provisioned_at=None).exists, within=60)
    found = Neighbour(system, enrolled)
    yield found
    found.stop()


def measure(neighbour: Neighbour, by: User, over: Callable[[], bool]) -> tuple[list[float], float]:
    """The times of commands until `over`, and the greatest age of the heartbeat stored last."""
    times, oldest = [], 0.0
    while not over():
        times.append(neighbour.command(by, within=120.0))
        oldest = max(oldest, neighbour.age_of_heartbeat())
        time.sleep(0.05)
    return times, oldest


def line(name: str, times: list[float], oldest: float, neighbour: Neighbour) -> str:
    beats = neighbour.heartbeats
    return (
        f"{name:<12} commands {len(times):>4}, median {1000 * statistics.median(times):>6.0f} ms, "
        f"worst {1000 * max(times):>6.0f} ms; heartbeats acknowledged {beats.acknowledged:>3}, "
        f"refused {len(beats.refused)}, slowest PubAck {beats.slowest:>5.2f} s, "
        f"oldest stored {oldest:>5.2f} s"
    )


def fate(report: Report) -> str:
    ended = report.ended_after
    told = "kept its connection" if ended is None else f"ended after {ended:.2f} s"
    return (
        f"{report.sent / (report.share * report.seconds or 1.0):,.0f}/s sent, {told}, "
        f"connected {100 * report.share:.0f} % of {report.seconds:.0f} s "
        f"in {len(report.lives)} connections, refused {report.refused} times: {report.words}"
    )


def attacker(group: Group) -> tuple[Enrolled, list[Enrolled]]:
    return enrol(group, "attacker"), [enrol(group, f"sibling {number}") for number in range(10)]


def login_of(flood: Flood, enrolled: Enrolled) -> dict[str, str]:
    if flood.by_tenant:
        tenant = Tenant.objects.get(pk=enrolled.device.tenant_id)
        issued = issue_tenant_credential(tenant, kind=Credential.Kind.JWT, by=None)
        jwt, seed = parse_credentials(issued.secret)
        return {"jwt": jwt, "seed": seed}
    return {"jwt": enrolled.jwt, "seed": enrolled.key.seed}


def target_of(system: System, enrolled: Enrolled, siblings: list[Enrolled]) -> Target:
    device = enrolled.device
    answered = [
        Command.objects.create(
            device=device, command="ping", parameters={}, deadline=device.created_at
        )
        for _ in range(5)
    ]
    return Target(
        device.tenant_id,
        device.pk,
        [command.uuid for command in answered],
        [each.device.pk for each in siblings],
    )


@pytest.mark.parametrize(
    "flood", [BY_NAME[name] for name in CHOSEN] or FLOODS, ids=lambda flood: flood.name
)
def test_neighbours_of_a_flood(
    system: System,
    neighbour: Neighbour,
    unrelated: int,
    group_a: Group,
    charlie: User,
    flood: Flood,
    say: Say,
) -> None:
    enrolled, siblings = attacker(group_a)
    target = target_of(system, enrolled, siblings)
    accounts = BrokerAccount.objects.filter(tenant=group_a.tenant_id)
    eventually(accounts.exclude(provisioned_at=None).exists, within=60)
    neighbour.command(charlie)
    say(f"\n{flood.name}, {RATE_ASKED:,.0f}/s")
    until = time.monotonic() + CALM
    say(line("no flood", *measure(neighbour, charlie, lambda: time.monotonic() > until), neighbour))
    for name, port, login in (
        ("elsewhere", unrelated, {}),
        ("here", system.port, login_of(flood, enrolled)),
    ):
        neighbour.heartbeats = Heartbeats()
        with flooding(flood, target, port, login, seconds=SECONDS, rate=RATE_ASKED) as under_way:
            times, oldest = measure(neighbour, charlie, lambda now=under_way: now.is_over)
            report = under_way.stop()
        say(line(name, times, oldest, neighbour))
        say(f"             {fate(report)}")
        if neighbour.heartbeats.refused:
            say(f"             {neighbour.heartbeats.refused[0]}")
    details = SubscriberStatus.objects.get().details
    say(f"             {details.get('counters')}")
