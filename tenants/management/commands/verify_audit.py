"""Verify that the audit is as it was written."""

from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError

from natsbridge.management.base import PlainCommand
from tenants.audit import sealing
from tenants.audit.verify import audit_report
from tenants.models import AuditEntry


class Command(PlainCommand):
    help = (
        "Verify the audit's hash chain: list every row, and every anchor (a signed checkpoint of "
        "the chain), that was changed, inserted or removed, and say whether the file of anchors "
        "was emptied, cut, replaced or removed. It cannot show what happened to a row before it "
        "was sealed, which takes a running subscriber less than a second, nor what somebody did "
        "who has AUDIT_KEY, nor a cut end without an anchor in table or file. Exit with 1 when "
        "something is wrong."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--from",
            dest="start",
            type=_sequence,
            default=1,
            metavar="SEQUENCE",
            help="begin there and trust the row before (default: the beginning)",
        )
        parser.add_argument(
            "--anchors",
            dest="files",
            type=Path,
            action="append",
            default=[],
            metavar="FILE",
            help="a copy of AUDIT_ANCHORS_FILE from another computer that runs a subscriber",
        )

    def handle(self, *args: Any, start: int, files: list[Path], **options: Any) -> None:
        newest = sealing.newest_sequence()
        if start > max(newest, 1):
            raise CommandError(f"There is no sequence {start}. The newest is {newest}.")
        number = 0
        try:
            with audit_report(start, files=files) as report:
                for number, problem in enumerate(report.problems, start=1):  # noqa: B007
                    self.stdout.write(str(problem))
        except OSError as error:
            raise CommandError(f"Cannot read the anchors: {error}") from error
        unsealed = AuditEntry.objects.filter(sequence=None).count()
        self.stderr.write(
            f"{report.rows} rows, {report.anchors} anchors, {unsealed} rows not sealed yet."
        )
        if report.never_in_file:
            self.stderr.write(f"{report.never_in_file} anchors could not be written to a file.")
        if not report.anchors and not number:
            self.stderr.write(
                f"There is no anchor yet, neither in the database nor in "
                f"{settings.AUDIT_ANCHORS_FILE}. A subscriber writes one when it seals rows."
            )
        if number:
            raise CommandError(
                f"The audit is not as it was written. Problems listed above: {number}."
            )
        self.stderr.write("The audit is as it was written.")


def _sequence(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 2**63:
        raise ArgumentTypeError(f"{text!r} is not a sequence: a whole number of at least 1")
    return int(text)
