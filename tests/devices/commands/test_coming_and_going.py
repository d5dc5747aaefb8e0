"""Commands to agents without receipts, issued all the time while they leave and come back: each
runs once, or says why it did not."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import pytest
from django.utils import timezone
from pytest_django.fixtures import Settings

from devices.commands import delivery
from devices.commands import issue as commands
from devices.models import BrokerSession, Command, CommandState, Connectivity
from natsbridge.models import SubscriberStatus
from tenants.models import BrokerAccount, Group, User
from tests.support.agents.plain_agent import PlainAgent
from tests.support.people import enrol
from tests.support.system import System, eventually

TICK = 0.1
# So many commands are issued before the agent leaves, and after it is back.
MARGIN = 20

Leave = Callable[[PlainAgent, "Trial"], None]


class Trial:
    """One agent that leaves and comes back, and what it was told meanwhile."""

    def __init__(self, agent: PlainAgent, leave: Leave, away: int) -> None:
        self.agent = agent
        self.rows: list[Command] = []
        # How many had been issued when the platform knew that the agent had left.
        self.issued_before_known: int | None = None
        self._leave, self._back_at = leave, MARGIN + away
        self.ticks = self._back_at + MARGIN

    def tick(self, number: int, by: User) -> None:
        if number == MARGIN:
            self._leave(self.agent, self)
        elif number == self._back_at:
            self.agent.connect()
        if self.issued_before_known is None and number >= MARGIN and not self._is_connected():
            self.issued_before_known = len(self.rows)
        if number < self.ticks:
            self.rows.append(commands.issue(self.agent.device, "ping", {}, by=by))

    def _is_connected(self) -> bool:
        sessions = BrokerSession.objects.filter(device=self.agent.device, ended_at=None)
        return sessions.exists()

    def has_ended(self) -> bool:
        """Every command has ended, and every answer is in."""
        rows = Command.objects.filter(device=self.agent.device)
        ran = rows.filter(uuid__in=list(self.agent.runs))
        return self.agent.has_answered and not (
            rows.exclude(state__in=[CommandState.SUCCEEDED, CommandState.FAILED]).exists()
            or ran.exclude(state=CommandState.SUCCEEDED).exists()
        )

    def check(self) -> Counter[str]:
        """Each ran once or says why it did not; of those issued when it was known that the agent
        had left, each ran."""
        outcomes: Counter[str] = Counter()
        known_from = (
            len(self.rows) if self.issued_before_known is None else self.issued_before_known
        )
        for number, row in enumerate(self.rows):
            row.refresh_from_db()
            runs = self.agent.runs[str(row.uuid)]
            if row.state == CommandState.SUCCEEDED:
                assert runs == 1
                outcomes["ran once"] += 1
            else:
                assert (row.error, runs) == ("no response", 0)
                assert number < known_from, f"command {number} of {len(self.rows)} went to nobody"
                outcomes["no response"] += 1
        return outcomes


def end_trial(agent: PlainAgent, trial: Trial) -> None:
    agent.leave()


def kill(agent: PlainAgent, trial: Trial) -> None:
    agent.die()


def run(system: System, trials: Sequence[Trial], by: User) -> Counter[str]:
    begun = time.monotonic()
    for number in range(max(trial.ticks for trial in trials)):
        time.sleep(max(0.0, begun + number * TICK - time.monotonic()))
        for trial in trials:
            trial.tick(number, by)
    for trial in trials:
        eventually(lambda trial=trial: delivery.sweep() or trial.has_ended(), within=60)
    return sum((trial.check() for trial in trials), Counter())


@pytest.fixture
def agents(
    system: System, group_a: Group, settings: Settings
) -> Iterator[Callable[[int], list[PlainAgent]]]:
    settings.COMMAND_RESPONSE_SECONDS = 4
    made: list[PlainAgent] = []

    def connected(count: int) -> list[PlainAgent]:
        enrolled = [enrol(group_a, f"plain-{len(made) + number}") for number in range(count)]
        if not made:
            system.start_subscriber()
            accounts = BrokerAccount.objects.filter(tenant=group_a.tenant_id)
            eventually(accounts.exclude(provisioned_at=None).exists)
        some = [PlainAgent(system.thread, each) for each in enrolled]
        made.extend(some)
        for agent in some:
            agent.connect()
        heard = Connectivity.objects.exclude(last_heartbeat=None)
        eventually(lambda: heard.count() == len(made))
        return some

    yield connected
    for agent in made:
        agent.close()


def test_a_command_issued_around_a_disconnect_runs_once_or_says_why_not(
    system: System, agents: Callable[[int], list[PlainAgent]], alice: User, settings: Settings
) -> None:
    """One agent is back within its grace, the other after it."""
    settings.PRESENCE_GRACE_SECONDS = 1
    first, second = agents(2)
    trials = [Trial(first, end_trial, away=5), Trial(second, kill, away=20)]
    outcomes = run(system, trials, alice)
    assert outcomes.total() == sum(len(trial.rows) for trial in trials)


@pytest.mark.long
@pytest.mark.parametrize("grace", [1, 3])
def test_many_times(
    system: System,
    agents: Callable[[int], list[PlainAgent]],
    alice: User,
    settings: Settings,
    grace: int,
) -> None:
    settings.PRESENCE_GRACE_SECONDS = grace
    some = agents(4)
    outcomes: Counter[str] = Counter()
    for number in range(8):
        leave = end_trial if number % 2 else kill
        trials = [
            Trial(agent, leave, away) for agent, away in zip(some, (2, 9, 16, 45), strict=True)
        ]
        outcomes += run(system, trials, alice)
    print(f"grace {grace} s: {dict(outcomes)}")


@pytest.mark.long
@pytest.mark.parametrize("restarted", ["broker", "subscriber"])
def test_many_times_while_a_server_restarts(
    system: System,
    agents: Callable[[int], list[PlainAgent]],
    alice: User,
    restarted: str,
) -> None:
    (agent,) = agents(1)
    outcomes: Counter[str] = Counter()
    for number in range(6):

        def leave(agent: PlainAgent, trial: Trial) -> None:
            if restarted == "broker":
                system.server.stop()
                agent.die()
                system.start_server()
            else:
                system.stop_subscriber()
                agent.die()
                # What is issued from now on cannot be on its way.
                trial.issued_before_known = len(trial.rows)
                system.start_subscriber()

        outcomes += run(system, [Trial(agent, leave, away=5 + 5 * number)], alice)
    print(f"{restarted} restarted: {dict(outcomes)}")


def test_to_a_connection_that_is_known_only_to_the_platform_nothing_is_sent(
    system: System, agents: Callable[[int], list[PlainAgent]], alice: User, settings: Settings
) -> None:
    """As where it ended while the subscriber was stopped, and its event is still to be read."""
    settings.COMMAND_RESPONSE_SECONDS = 600
    (agent,) = agents(1)
    session = eventually(BrokerSession.objects.filter(device=agent.device).first)
    agent.leave()
    eventually(lambda: BrokerSession.objects.exclude(ended_at=None).exists())
    system.stop_subscriber()
    row = commands.issue(agent.device, "ping", {}, by=alice)
    Connectivity.objects.update(
        presence="online", offline_due_at=None, last_seen_online=timezone.now()
    )
    BrokerSession.objects.update(ended_at=None, end_reason="")
    system.start_subscriber()
    eventually(BrokerSession.objects.exclude(ended_at=None).exists)
    waiting = Command.objects.filter(state=CommandState.QUEUED, sends=0)
    eventually(waiting.exists)
    session.refresh_from_db()
    assert session.end_reason == BrokerSession.UNLISTED
    agent.connect()
    eventually(Command.objects.filter(state=CommandState.SUCCEEDED).exists)
    assert agent.runs == {str(row.uuid): 1}


def test_an_agent_that_does_not_listen_for_commands_is_sent_none(
    system: System, agents: Callable[[int], list[PlainAgent]], alice: User
) -> None:
    (agent,) = agents(1)
    agent.stop_listening()
    row = commands.issue(agent.device, "ping", {}, by=alice)
    refusals = SubscriberStatus.objects.filter(details__counters__has_key="commands.unheard")
    eventually(refusals.exists)
    system.stop_subscriber()
    row.refresh_from_db()
    assert (row.state, row.sends) == (CommandState.QUEUED, 0)
    Command.objects.update(deadline=timezone.now())
    delivery.sweep()
    row.refresh_from_db()
    assert row.error == "the device was not online, or not listening, before the deadline"


def test_those_that_do_not_listen_hold_up_nobody(
    system: System, agents: Callable[[int], list[PlainAgent]], alice: User
) -> None:
    """However many older commands wait for them."""
    deaf, other = agents(2)
    deaf.stop_listening()
    deadline = commands.latest(None)
    Command.objects.bulk_create(
        Command(device=deaf.device, command="ping", created_by=alice, deadline=deadline)
        for _ in range(250)
    )
    row = commands.issue(other.device, "ping", {}, by=alice)
    eventually(Command.objects.filter(pk=row.pk, state=CommandState.SUCCEEDED).exists)
    assert not deaf.runs
    deaf.listen()
    eventually(lambda: deaf.runs.total() == 250)
    assert set(deaf.runs.values()) == {1}
