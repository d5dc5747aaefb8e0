"""Create and update the streams and consumers at the broker."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from natsbridge.management.base import PlainCommand
from tenants.broker import jetstream
from tenants.broker.provisioning import REFUSALS
from tenants.errors import TenantsError


class Command(PlainCommand):
    help = (
        "Create and update all streams and consumers, the platform's and every tenant's, and "
        "print what changed. It is safe to repeat. A change that would lose messages is refused; "
        "undeclared streams and consumers are listed, and removed only on request."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--recreate",
            metavar="NAME",
            action="append",
            default=[],
            help="delete this stream with all its messages, or this consumer, and create it again",
        )
        parser.add_argument(
            "--remove",
            metavar="NAME",
            action="append",
            default=[],
            help="delete this undeclared stream or consumer (jetstream_verify shows the names); "
            "refused if it holds messages",
        )
        parser.add_argument(
            "--with-messages", action="store_true", help="let --remove delete the messages too"
        )

    def handle(self, *args: Any, recreate: list[str], remove: list[str], **options: Any) -> None:
        said = 0

        def say(change: str) -> None:
            nonlocal said
            said += 1
            self.stdout.write(change)

        try:
            for name in recreate:
                for change in jetstream.recreate(name):
                    say(change)
            for name in remove:
                say(jetstream.remove(name, with_messages=options["with_messages"]))
            refused = jetstream.init(say)
            left = jetstream.undeclared()
        except (*REFUSALS, TenantsError) as error:
            raise CommandError(str(error)) from error
        for reason in refused:
            self.stderr.write(f"refused: {reason}")
        if refused:
            raise CommandError(
                "Not all is as declared. --recreate NAME forces it, and deletes all NAME holds."
            )
        for each in left:
            self.stderr.write(f"not declared, and left alone: {each} (--remove {each.name})")
        self.stderr.write("All is as declared now." if said else "All was as declared already.")
