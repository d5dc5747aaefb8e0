"""One fault after the other, each with what it did to the load and how long recovery took."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from itertools import product
from typing import Any, LiteralString
from uuid import UUID

import psycopg

from tests.suites.faults import books
from tests.suites.faults.books import Devices, Rows
from tests.suites.faults.ledger import Acknowledged
from tests.suites.faults.stage import PARTS, Stage

POLL = 0.05
# A part that was killed is started again after so long, as a service manager would.
RESTART_AFTER = 1.0
# Of two faults at once the second begins, and ends, up to so long after the first.
APART = 3.0
# Nothing may take longer: longer than the longest pause between two attempts of an agent.
RECOVERY_LIMIT = 90.0
# Rates are told of no less than this time, and counted this often.
SHORTEST = 2.0
COUNTED = 0.6
# The second half of a simulated device's `session_id` is when it sent the heartbeat.
FRESH = (
    "SELECT count(*) FROM devices_connectivity"
    " WHERE agent_version = 'simulated' AND split_part(session_id, ' ', 2)::float8 > %s"
)
NEWEST = (
    "SELECT max(split_part(session_id, ' ', 2)::float8) FROM devices_connectivity"
    " WHERE agent_version = 'simulated'"
)

SUCCEEDED = "SELECT count(*) FROM devices_command WHERE state = 'succeeded' AND uuid = ANY(%s)"


class Kind(Enum):
    KILL = "SIGKILL"
    FREEZE = "SIGSTOP"
    RESTART = "restart"
    CUT = "network cut"


@dataclass(frozen=True)
class Fault:
    part: str
    kind: Kind

    def __str__(self) -> str:
        return f"{self.part}: {self.kind.value}"

    def begin(self, stage: Stage) -> None:
        part = stage.parts[self.part]
        match self.kind:
            case Kind.KILL:
                part.kill()
            case Kind.FREEZE:
                part.freeze()
            case Kind.RESTART:
                part.stop()
            case Kind.CUT:
                stage.network.cut(part.routes)

    def end(self, stage: Stage) -> None:
        part = stage.parts[self.part]
        match self.kind:
            case Kind.KILL | Kind.RESTART:
                part.start()
            case Kind.FREEZE:
                part.resume()
            case Kind.CUT:
                stage.network.join(part.routes)

    def seconds(self, hold: float) -> float:
        return {Kind.KILL: RESTART_AFTER, Kind.RESTART: 0.0}.get(self.kind, hold)


EVERY_FAULT = tuple(Fault(part, kind) for part, kind in product(PARTS, Kind))

# Where a fault alone seldom finds the moment: the subscriber dies while it holds what the database
# has not taken yet; most of it right after the database came back, when it catches up.
CHOSEN_PAIRS = (
    (Fault("Postgres", Kind.FREEZE), Fault("subscriber", Kind.KILL)),
    (Fault("Postgres", Kind.CUT), Fault("subscriber", Kind.KILL)),
)
CATCHING_UP = 0.045


def random_pairs(count: int, seed: int) -> list[tuple[Fault, Fault]]:
    """Each of two parts; the same ones for the same seed."""
    choose = random.Random(seed)  # noqa: S311
    pairs = []
    for _ in range(count):
        first, second = choose.sample(PARTS, 2)
        kinds = list(Kind)
        pairs.append((Fault(first, choose.choice(kinds)), Fault(second, choose.choice(kinds))))
    return pairs


@dataclass
class Outcome:
    """Seconds are from the end of the fault (of two: of the later). `lost` is what had been
    acknowledged and was not in the database when it was looked for."""

    name: str
    fault_seconds: float = 0.0
    # Messages a second: offered and acknowledged before, acknowledged meanwhile.
    offered: float = 0.0
    before: float = 0.0
    meanwhile: float = 0.0
    # How old the newest stored heartbeat was at the worst moment, from the fault to the recovery.
    behind: float = 0.0
    # Until one, and every, simulated device had a fresh heartbeat stored.
    first_heartbeat: float | None = None
    every_heartbeat: float | None = None
    # Until a fresh command of a simulated device, and of each real agent, had succeeded.
    command: float | None = None
    real_command: float | None = None
    stored: float | None = None
    lost: Sequence[str] = field(default_factory=list)

    @property
    def recovered(self) -> bool:
        measured = (self.first_heartbeat, self.every_heartbeat, self.command, self.real_command)
        return None not in measured

    @property
    def recovery(self) -> float | None:
        """Until a fresh heartbeat was stored and a fresh command had succeeded."""
        if self.first_heartbeat is None or self.command is None:
            return None
        return max(self.first_heartbeat, self.command)


class Drill:
    """All that is done to one stage, on one ledger."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._acknowledged = Acknowledged(stage.ledger)
        self._interrupted = threading.Event()
        self.outcomes: list[Outcome] = []
        simulated = {UUID(each.device): each.receipts for each in stage.devices}
        self._devices = Devices(
            {device for device, receipts in simulated.items() if receipts},
            {device for device, receipts in simulated.items() if not receipts},
            set(stage.real_devices),
        )

    def run(
        self,
        *faults: Fault,
        hold: float,
        steady: float = 3.0,
        apart: float = 0.0,
        look: bool = True,
    ) -> Outcome:
        """`apart`: so long after the first fault the second begins, and ends. `look`: wait until
        all that was acknowledged is stored."""
        started = time.time()
        time.sleep(steady)
        begun = time.time()
        outcome = Outcome(" + ".join(map(str, faults)))
        self.outcomes.append(outcome)
        ended = self._strike_and_measure(outcome, faults, hold, apart)
        outcome.fault_seconds = ended - begun
        ledger = self._acknowledged.read()
        if look:
            outcome.lost = books.until_stored(ledger, self._stage.database_url, RECOVERY_LIMIT)
            outcome.stored = None if outcome.lost else time.time() - ended
            time.sleep(max(begun + SHORTEST + COUNTED - time.time(), 0))
            ledger.read()
        outcome.offered, outcome.before = ledger.rate(started, begun)
        outcome.meanwhile = ledger.rate(begun, max(ended, begun + SHORTEST))[1]
        return outcome

    def _strike_and_measure(
        self, outcome: Outcome, faults: Sequence[Fault], hold: float, apart: float
    ) -> float:
        """When the last one's end began."""
        recovered = threading.Event()
        with ThreadPoolExecutor(4) as pool:
            try:
                behind = pool.submit(self._worst_age, recovered)
                ended = self._strike(faults, hold, apart)
                beats = pool.submit(self._until_heartbeats, ended)
                some = [UUID(each.device) for each in self._stage.devices if each.receipts][:1]
                command = pool.submit(self._until_commands, ended, some, False)
                real = pool.submit(self._until_commands, ended, self._stage.real_devices, True)
                wait([beats, command, real])
            except BaseException:
                # Nobody here may wait any longer, least of all for a server that is frozen.
                self._interrupted.set()
                for fault in faults:
                    self._stage.parts[fault.part].resume()
                raise
            finally:
                recovered.set()
        outcome.first_heartbeat, outcome.every_heartbeat = beats.result()
        outcome.command, outcome.real_command = command.result(), real.result()
        outcome.behind = behind.result()
        return ended

    def _strike(self, faults: Sequence[Fault], hold: float, apart: float) -> float:
        """Begins and ends them in the order of their times; when the last one's end began."""
        events: list[tuple[float, Callable[[Stage], None]]] = []
        for number, fault in enumerate(faults):
            begin = number * apart
            events += [(begin, fault.begin), (begin + fault.seconds(hold), fault.end)]
        start = time.time()
        for at, happen in sorted(events, key=lambda event: event[0]):
            time.sleep(max(start + at - time.time(), 0))
            now = time.time()
            happen(self._stage)
        return now

    def _worst_age(self, recovered: threading.Event) -> float:
        worst, begun = 0.0, time.time()
        for newest in self._answers(begun, lambda: (NEWEST, [])):
            # None: no device has been heard yet.
            worst = max(worst, time.time() - (newest or begun))
            if recovered.is_set():
                break
        return worst

    def _until_heartbeats(self, ended: float) -> tuple[float | None, float | None]:
        """Until one, and until every, simulated device had a fresh heartbeat stored."""
        first = None
        for count in self._answers(ended, lambda: (FRESH, [ended])):
            if count and first is None:
                first = time.time() - ended
            if count == len(self._stage.devices):
                return first, time.time() - ended
        return first, None

    def _until_commands(self, ended: float, devices: Sequence[UUID], real: bool) -> float | None:
        """Until the API had taken a command for each of them, and each had succeeded."""
        api, waiting = self._stage.api, list(devices)
        issued: list[UUID] = []
        for count in self._answers(ended, lambda: (SUCCEEDED, [issued])):
            if not waiting and count == len(issued):
                return time.time() - ended
            while waiting and (command := api.issue(waiting[0], real=real)):
                issued.append(command)
                waiting.pop(0)
        return None

    def _answers(
        self, since: float, question: Callable[[], tuple[LiteralString, list[Any]]]
    ) -> Iterator[Any]:
        """What the database answers, again and again until it is too late. Meanwhile it may be
        away."""
        while time.time() - since < RECOVERY_LIMIT and not self._interrupted.is_set():
            with suppress(psycopg.OperationalError), self._connected() as database:
                while time.time() - since < RECOVERY_LIMIT and not self._interrupted.is_set():
                    answer = database.execute(*question()).fetchone()
                    yield answer[0] if answer else None
                    time.sleep(POLL)
            time.sleep(POLL)

    def _connected(self) -> psycopg.Connection:
        url = self._stage.database_url
        return psycopg.connect(url, connect_timeout=2, autocommit=True)

    def close_the_books(self, within: float) -> list[str]:
        """No more load: what is lost, or wrong with any command, once all had time to end."""
        self._stage.quieten()
        deadline = time.monotonic() + within
        while True:
            ledger = self._acknowledged.read()
            rows = Rows.read(self._stage.database_url)
            runs = books.all_runs(ledger, rows, self._stage.osquery_runs)
            found = books.missing(ledger, rows) + books.wrong(rows, self._devices, runs)
            if not found or time.monotonic() > deadline:
                self.rows, self.ledger = rows, ledger
                return found
            time.sleep(books.POLL)

    def summary(self) -> str:
        """Counts, once the books are closed."""
        ledger, rows = self.ledger, self.rows
        counts = ledger.counts[-1]
        states = Counter(
            f"{row.state} ({row.error})" if row.error else row.state
            for row in rows.commands.values()
        )
        return "\n".join(
            [
                f"offered {counts.offered}, acknowledged {counts.acknowledged}, refused "
                f"{counts.refused}, without an answer {counts.silent}",
                "acknowledged: "
                + ", ".join(
                    f"{name} {ledger.totals[name]}"
                    for name in ("beat", "report", "stray", "receipt", "answer")
                ),
                f"dead letters: {dict(rows.dead_letters)}",
                f"commands: {dict(states)}; issued and answered for by the API "
                f"{ledger.totals['issued']}; simulated runs {ledger.totals['ran']}",
            ]
        )
