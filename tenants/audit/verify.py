"""Verify the whole audit: its hash chain, and the anchors that are checkpoints of the chain."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from tenants.audit import checkpoints, sealing
from tenants.audit.rules import chain
from tenants.audit.rules.chain import Anchor, Problem, Sealed
from tenants.models import AuditEntry

ROWS_AT_A_TIME = 2000
UNSEALED_AFTER = timedelta(minutes=1)
UNSEALED_NAMED = 20
UNANCHORED_AFTER = timedelta(minutes=10)


@dataclass
class Report:
    """What a verification found. Walk `problems` first, which counts `rows`."""

    problems: Iterator[Problem]
    anchors: int
    # Anchors of the table that could not be written to a file.
    never_in_file: int
    rows: int = 0


@contextmanager
def audit_report(start: int = 1, *, files: Sequence[Path] = ()) -> Iterator[Report]:
    """Verify the rows from sequence `start` on; the row before it is trusted.

    Sealing goes on meanwhile, and newer rows are not part of the report. `files` are the files of
    anchors of other computers, read beside this one's. Raises OSError for a file.
    """
    own = settings.AUDIT_ANCHORS_FILE
    with transaction.atomic(), connection.chunked_cursor() as cursor:
        with sealing.holding_still():
            in_file, problems = checkpoints.read(own)
            in_table, written = sealing.anchors_in_table(), sealing.macs_written_to_file()
            # From the lowest number, so that a row inserted before our first is found.
            cursor.execute(sealing.SEALED_FROM, [start - 1 if start > 1 else sealing.LOWEST])
        for path in files:
            path.stat()
            theirs, unreadable = checkpoints.read(path)
            in_file, problems = in_file + theirs, problems + unreadable
        table, forged = chain.genuine(in_table, settings.AUDIT_KEY, "table")
        file, forged_in_file = chain.genuine(in_file, settings.AUDIT_KEY, "file")
        problems += [*forged, *forged_in_file, *chain.removed(table, file)]
        problems += [*_lost(own, chain.lost_from_file(table, file, written))]
        if not table and not file:
            problems += _unanchored()
        kept = {anchor.mac for anchor in file}
        report = Report(
            problems=iter(problems),
            anchors=len(table),
            never_in_file=sum(anchor.mac not in kept | written for anchor in table),
        )
        report.problems = _all(report, problems, {*table, *file}, cursor, start)
        yield report


def _all(
    report: Report, problems: list[Problem], anchors: set[Anchor], cursor: Any, start: int
) -> Iterator[Problem]:
    yield from problems
    rows = _sealed_rows(cursor)
    basis = next(rows, None) if start > 1 else None
    if basis and basis.row.sequence >= start:
        # The row before is gone, which the walk has to report.
        rows, basis = _chained(basis, rows), None
    yield from chain.verify(_counted(report, rows), anchors, settings.AUDIT_KEY, basis=basis)
    yield from _long_unsealed()


def _lost(path: Path, lost: Sequence[Anchor]) -> Iterator[Problem]:
    if lost:
        yield Problem(
            f"{path} {checkpoints.what_happened_to(path)}: {len(lost)} anchors that were written "
            f"are missing, of the sequences {lost[0].sequence} to {lost[-1].sequence}. If another "
            "computer wrote them, add --anchors with a copy of its file"
        )


def _unanchored() -> Iterator[Problem]:
    """Report that no anchor is left, since a subscriber anchors its first rows as it seals them."""
    sealed = AuditEntry.objects.exclude(sequence=None)
    if sealed.filter(at__lt=timezone.now() - UNANCHORED_AFTER).exists():
        yield Problem("no anchor is left, neither in the table nor in the file: they were removed")


def _sealed_rows(cursor: Any) -> Iterator[Sealed]:
    while rows := cursor.fetchmany(ROWS_AT_A_TIME):
        yield from map(sealing.sealed_row, rows)


def _chained(first: Sealed, rest: Iterator[Sealed]) -> Iterator[Sealed]:
    yield first
    yield from rest


def _counted(report: Report, rows: Iterator[Sealed]) -> Iterator[Sealed]:
    for sealed in rows:
        report.rows += 1
        yield sealed


def _long_unsealed() -> Iterator[Problem]:
    old = AuditEntry.objects.filter(sequence=None, at__lt=timezone.now() - UNSEALED_AFTER)
    waiting = old.order_by("id").values_list("id", "action", "at").iterator()
    for row, action, at in islice(waiting, UNSEALED_NAMED):
        what = f"not sealed since {at:%Y-%m-%d %H:%M:%S} UTC: is a subscriber running?"
        yield Problem(what, id=row, action=action)
    more = old.count() - UNSEALED_NAMED
    if more > 0:
        yield Problem(f"{more} further rows are not sealed")
