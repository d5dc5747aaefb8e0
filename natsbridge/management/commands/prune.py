"""Removes what has been kept long enough."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from natsbridge.errors import AlreadyPruning
from natsbridge.management.base import PlainCommand
from natsbridge.retention.engine import count, prune, retention


class Command(PlainCommand):
    help = (
        "Removes old commands, presence history, audit entries, dead letters, and sessions, "
        "keys and credentials that open nothing any more, each after the days that the settings "
        "give it. A running subscriber does this once a day by itself. Exits with 1 when a kind "
        "could not be pruned; the others are."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--dry-run", action="store_true", help="remove nothing; say how many rows would go"
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
        self.stdout.write(f"{total:,} rows {'would go' if dry_run else 'removed'}.")
        if failed := [outcome.name for outcome in outcomes if outcome.problem]:
            raise CommandError(f"Not pruned: {', '.join(failed)}.")
