"""Delete rows that are older than the settings keep them."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from natsbridge.errors import AlreadyPruning
from natsbridge.management.base import PlainCommand
from natsbridge.retention.engine import count, prune, retention


class Command(PlainCommand):
    help = (
        "Deletes old commands, presence history, audit entries and dead letters, and sessions, "
        "keys and credentials that are no longer valid, each after the number of days in the "
        "settings. A running subscriber does this once a day by itself. Exits with 1 if a kind of "
        "rows could not be pruned; the other kinds are."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--dry-run",
            action="store_true",
            help="delete nothing; print how many rows would be deleted",
        )

    def handle(self, *args: Any, dry_run: bool, **options: Any) -> None:
        try:
            outcomes = count(retention.kinds) if dry_run else prune(retention.kinds)
        except AlreadyPruning as error:
            raise CommandError(str(error)) from error
        width = max(len(outcome.name) for outcome in outcomes)
        for outcome in outcomes:
            line = f"{outcome.name:<{width}}  {outcome.rows:>9,}  {outcome.problem}"
            self.stdout.write(line.rstrip())
        total = sum(outcome.rows for outcome in outcomes)
        self.stdout.write(f"{total:,} rows {'would be deleted' if dry_run else 'deleted'}.")
        if failed := [outcome.name for outcome in outcomes if outcome.problem]:
            raise CommandError(f"Not pruned: {', '.join(failed)}.")
