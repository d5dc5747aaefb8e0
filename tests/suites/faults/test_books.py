"""The books find what is lost: each kind of loss is made up here, and named."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from tests.suites.faults import books
from tests.suites.faults.books import INTERRUPTED, NO_RESPONSE, CommandRow, Devices, Rows
from tests.suites.faults.ledger import Acknowledged, Writer

DEVICE, PLAIN, REAL, COMMAND = (uuid4() for _ in range(4))
DEVICES = Devices({DEVICE}, {PLAIN}, {REAL})
SUCCEEDED = CommandRow(COMMAND, DEVICE, "succeeded", "", {"token": "t"}, "t", True)


@pytest.fixture
def acknowledged(tmp_path: Path) -> Acknowledged:
    """One of each kind, read back from the file."""
    ledger = Writer(tmp_path / "ledger")
    ledger.write("beat", DEVICE, 7)
    ledger.write("report", DEVICE, "k1", 91)
    ledger.write("stray", COMMAND)
    ledger.write("issued", COMMAND, DEVICE)
    ledger.write("ran", COMMAND, DEVICE)
    ledger.write("receipt", COMMAND)
    ledger.write("answer", COMMAND)
    ledger.flush()
    return Acknowledged(tmp_path / "ledger").read()


def whole() -> Rows:
    return Rows(
        beats={DEVICE: 7},
        reports={(DEVICE, "k1"): 91},
        commands={COMMAND: SUCCEEDED},
        dead_letter_responses={COMMAND},
    )


def test_nothing_is_missing_where_all_is_stored(acknowledged: Acknowledged) -> None:
    assert books.missing(acknowledged, whole()) == []
    assert books.wrong(whole(), DEVICES, acknowledged.runs) == []


def test_a_newer_heartbeat_stands_for_an_older_one(acknowledged: Acknowledged) -> None:
    rows = whole()
    rows.beats[DEVICE] = 8
    assert books.missing(acknowledged, rows) == []


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda rows: rows.beats.update({DEVICE: 6}), "heartbeat 7"),
        (lambda rows: rows.beats.clear(), "heartbeat 7"),
        (lambda rows: rows.reports.update({(DEVICE, "k1"): 1}), "report 91 of kind k1"),
        (lambda rows: rows.dead_letter_responses.clear(), "no dead letter"),
        (lambda rows: rows.commands.clear(), "is not there"),
        (
            lambda rows: rows.commands.update({COMMAND: replace(SUCCEEDED, state="sent")}),
            "receipt of",
        ),
        (
            lambda rows: rows.commands.update({COMMAND: replace(SUCCEEDED, state="delivered")}),
            "answer to",
        ),
        (
            lambda rows: rows.commands.update({COMMAND: replace(SUCCEEDED, result="other")}),
            "answer to",
        ),
    ],
)
def test_what_was_acknowledged_and_is_not_stored_is_named(
    acknowledged: Acknowledged, spoil: object, said: str
) -> None:
    rows = whole()
    assert callable(spoil)
    spoil(rows)
    assert any(said in each for each in books.missing(acknowledged, rows))


@pytest.mark.parametrize(
    ("row", "runs", "said"),
    [
        (replace(SUCCEEDED, state="delivered"), 1, "still open"),
        (SUCCEEDED, 2, "ran 2 times"),
        (SUCCEEDED, 0, "succeeded and ran 0 times"),
        (replace(SUCCEEDED, state="failed", error=NO_RESPONSE), 0, "ended as it should not"),
        (replace(SUCCEEDED, state="expired"), 0, "ended as it should not"),
        (
            replace(SUCCEEDED, device=PLAIN, state="failed", error=INTERRUPTED),
            0,
            "ended as it should not",
        ),
    ],
)
def test_a_command_that_has_not_ended_well_is_named(row: CommandRow, runs: int, said: str) -> None:
    rows = Rows(commands={COMMAND: row})
    assert any(said in each for each in books.wrong(rows, DEVICES, Counter({COMMAND: runs})))


@pytest.mark.parametrize(("device", "error"), [(PLAIN, NO_RESPONSE), (REAL, INTERRUPTED)])
def test_what_an_agent_cannot_know_may_fail(device: UUID, error: str) -> None:
    row = replace(SUCCEEDED, device=device, state="failed", error=error)
    assert books.wrong(Rows(commands={COMMAND: row}), DEVICES, Counter({COMMAND: 1})) == []
    assert books.wrong(Rows(commands={COMMAND: row}), DEVICES, Counter()) == []


def test_half_a_line_waits_for_its_other_half(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    path.write_text(f"beat {DEVICE} 1 1.0\nbeat {DEVICE} 2")
    acknowledged = Acknowledged(path).read()
    assert acknowledged.beats == {DEVICE: 1}
    with path.open("a") as stream:
        stream.write("3 1.0\n")
    assert acknowledged.read().beats == {DEVICE: 23}
