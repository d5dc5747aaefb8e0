"""The ledger against the database: what is missing, and what should not be."""

import json
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import psycopg

from tests.suites.faults.ledger import Acknowledged

OPEN = ("queued", "sent", "delivered")
INTERRUPTED = "interrupted: the agent ended while it ran this; it is not run again"
NO_RESPONSE = "no response"
POLL = 0.25


@dataclass(frozen=True)
class CommandRow:
    uuid: UUID
    device: UUID
    state: str
    error: str
    parameters: dict[str, str]
    result: object
    delivered: bool

    @property
    def is_open(self) -> bool:
        return self.state in OPEN


@dataclass
class Rows:
    """What the database holds of everything that a ledger may have acknowledged."""

    beats: dict[UUID, int] = field(default_factory=dict)
    reports: dict[tuple[UUID, str], int] = field(default_factory=dict)
    commands: dict[UUID, CommandRow] = field(default_factory=dict)
    # Command ids of responses that became dead letters; how many dead letters there are by reason.
    dead_letter_responses: set[UUID] = field(default_factory=set)
    dead_letters: Counter[str] = field(default_factory=Counter)

    @classmethod
    def read(cls, url: str) -> "Rows":
        rows = cls()
        with psycopg.connect(url, connect_timeout=5) as database:
            for device, session in database.execute(
                "SELECT device_id, session_id FROM devices_connectivity"
                " WHERE agent_version = 'simulated'"
            ):
                rows.beats[device] = int(session.split()[0])
            for device, kind, data in database.execute(
                "SELECT device_id, kind, data FROM devices_realtimedata"
            ):
                rows.reports[device, kind.removeprefix("monitoring:")] = data["number"]
            for row in database.execute(
                "SELECT uuid, device_id, state, error, parameters, result,"
                " delivered_at IS NOT NULL FROM devices_command"
            ):
                rows.commands[row[0]] = CommandRow(*row)
            for reason, body in database.execute(
                # The table of dead letters; this runs without Django.
                "SELECT reason, body FROM natsbridge_parkedmessage"
            ):
                rows.dead_letters[reason] += 1
                content = json.loads(body)
                if "command_id" in content:
                    rows.dead_letter_responses.add(UUID(content["command_id"]))
        return rows


@dataclass(frozen=True)
class Devices:
    """How the devices differ in what may be expected of them."""

    with_receipts: Collection[UUID]
    plain: Collection[UUID]
    real: Collection[UUID]


def missing(acknowledged: Acknowledged, rows: Rows) -> list[str]:
    """Each acknowledged message that is neither stored nor a dead letter."""
    lost = [
        f"heartbeat {number} of {device}: the stored one is {rows.beats.get(device)}"
        for device, number in acknowledged.beats.items()
        if rows.beats.get(device, 0) < number
    ]
    lost += [
        f"report {number} of kind {kind} of {device}: stored is {rows.reports.get((device, kind))}"
        for (device, kind), number in acknowledged.reports.items()
        if rows.reports.get((device, kind), 0) < number
    ]
    lost += [
        f"response to {uuid}, a command that never was: no dead letter"
        for uuid in acknowledged.strays - rows.dead_letter_responses
    ]
    for uuid in acknowledged.receipts:
        row = rows.commands.get(uuid)
        if row is None or row.state in ("queued", "sent"):
            lost.append(f"receipt of {uuid}: the command is {row}")
    for uuid in acknowledged.answers:
        row = rows.commands.get(uuid)
        if row is None or row.state != "succeeded" or row.result != row.parameters.get("token"):
            lost.append(f"answer to {uuid}: the command is {row}")
    lost += [
        f"command {uuid} was taken by the API and is not there"
        for uuid in acknowledged.issued
        if uuid not in rows.commands
    ]
    return lost


def wrong(rows: Rows, devices: Devices, runs: Counter[UUID]) -> list[str]:
    """Each command that has not ended, has ended wrongly, or ran otherwise than it says."""
    found = []
    for row in rows.commands.values():
        count = runs[row.uuid]
        if row.is_open:
            found.append(f"still open: {row}")
        if count > 1:
            found.append(f"ran {count} times: {row}")
        if row.state == "succeeded" and count != 1:
            found.append(f"succeeded and ran {count} times: {row}")
        allowed = row.state == "succeeded" or (
            row.state == "failed"
            and (
                (row.device in devices.real and row.error == INTERRUPTED)
                or (row.device in devices.plain and row.error == NO_RESPONSE)
            )
        )
        if not row.is_open and not allowed:
            found.append(f"ended as it should not: {row}")
    found += [f"ran and is in no row: {uuid}" for uuid in runs if uuid not in rows.commands]
    return found


def all_runs(acknowledged: Acknowledged, rows: Rows, osquery_runs: Path) -> Counter[UUID]:
    """Of simulated devices by their ledger, of real agents by the queries that osquery saw."""
    queries = Counter(osquery_runs.read_text().splitlines())
    runs = Counter(acknowledged.runs)
    for row in rows.commands.values():
        if query := row.parameters.get("query"):
            runs[row.uuid] += queries[query]
    return runs


def until_stored(acknowledged: Acknowledged, url: str, within: float) -> list[str]:
    """Returns when everything acknowledged so far is in the database, or what then is not."""
    deadline = time.monotonic() + within
    while True:
        try:
            lost = missing(acknowledged, Rows.read(url))
        except psycopg.OperationalError as error:
            lost = [f"the database does not answer: {error}"]
        if not lost or time.monotonic() > deadline:
            return lost
        time.sleep(POLL)
