"""Makes the streams and consumers at the broker as they are declared."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from natsbridge.management.base import PlainCommand
from tenants.broker import jetstream
from tenants.broker.provisioning import REFUSALS
from tenants.errors import TenantsError


class Command(PlainCommand):
    help = (
        "Creates and updates all streams and consumers in use, the platform's and every tenant's, "
        "and says what changed. May be repeated. A change that would lose messages is refused; "
        "what nobody declared is named, and removed only on request."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--recreate",
            metavar="NAME",
            action="append",
            default=[],
            help="delete this stream with all its messages, or this consumer, and make it anew",
        )
        parser.add_argument(
            "--remove",
            metavar="NAME",
            action="append",
            default=[],
            help="delete what nobody declared, by the name that jetstream_verify gives it; refused "
            "when it holds messages",
        )
        parser.add_argument(
            "--with-messages", action="store_true", help="--remove deletes the messages as well"
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
            raise CommandError("Not all is as declared. --recreate NAME loses what NAME holds.")
        for each in left:
            self.stderr.write(f"not declared, and left as it is: {each} (--remove {each.name})")
        self.stderr.write("All as declared." if said else "All was as declared.")
