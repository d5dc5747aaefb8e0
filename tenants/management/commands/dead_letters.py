"""List, show, replay and discard dead letters."""

import getpass
import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError
from django.db.models import QuerySet

from natsbridge.dead_letters import store
from natsbridge.management.base import PlainCommand
from natsbridge.models import DeadLetter
from natsbridge.protocol.hexdump import readable

State = DeadLetter.State
FILTERS = ("reason", "kind", "tenant", "device")


class Command(PlainCommand):
    help = (
        "Lists, shows, replays and discards dead letters, which are messages that could not be "
        "used. A running subscriber carries out a replay: it passes the message to its handler "
        "again, with its original subject and time."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("what", choices=("list", "show", "replay", "discard"))
        parser.add_argument("ids", nargs="*", type=int, metavar="ID")
        for name in FILTERS:
            parser.add_argument(f"--{name}", help=f"all with this {name}")
        parser.add_argument("--all", action="store_true", help="replay, discard: all dead letters")
        parser.add_argument("--state", choices=State.values, default=State.WAITING)
        parser.add_argument("--limit", type=int, default=50, help="list: how many (default 50)")

    def handle(self, *args: Any, what: str, ids: list[int], **options: Any) -> None:
        chosen = {name: options[name] for name in FILTERS if options[name]}
        rows = DeadLetter.objects.filter(**chosen)
        if ids:
            rows = rows.filter(pk__in=ids)
        if what != "list":
            _refuse_unknown(ids)
        if what == "list":
            self._list(rows.filter(state=options["state"]), options["limit"])
        elif what == "show":
            self._show(rows, ids)
        elif not (ids or chosen or options["all"]):
            raise CommandError(
                "Name dead letters by ID, or choose by --reason, --kind, --tenant, --device, --all."
            )
        else:
            work = store.request_replay if what == "replay" else store.discard
            number = work(rows, by=getpass.getuser())
            self.stdout.write(f"{number} to replay" if what == "replay" else f"{number} discarded")

    def _list(self, rows: QuerySet[DeadLetter], limit: int) -> None:
        found = list(rows.defer("body")[:limit])
        if not found:
            self.stdout.write("No dead letters.")
        for row in found:
            line = (row.pk, row.dead_lettered_at.isoformat("T", "seconds"), row.reason, row.subject)
            self.stdout.write("  ".join(map(str, line)))
        for reason, number in store.counts_by_reason().items():
            self.stderr.write(f"{reason}: {number}")

    def _show(self, rows: QuerySet[DeadLetter], ids: list[int]) -> None:
        if not ids:
            raise CommandError("Name the ID of a dead letter; `list` shows the IDs.")
        for row in rows:
            about = {
                name: str(getattr(row, name))
                for name in ("id", "state", "reason", "subject", "received_at", "attempts")
            }
            self.stdout.write(json.dumps(about | {"headers": row.headers}, indent=2))
            self.stdout.write(row.detail)
            self.stdout.write(readable(bytes(row.body)))


def _refuse_unknown(ids: list[int]) -> None:
    known = DeadLetter.objects.filter(pk__in=ids).values_list("pk", flat=True)
    unknown = sorted(set(ids) - set(known))
    if unknown:
        raise CommandError(f"There is no dead letter {', '.join(map(str, unknown))}.")
