"""Compare the streams and consumers at the broker with their declarations."""

from typing import Any

from django.core.management.base import CommandError

from natsbridge.management.base import PlainCommand
from tenants.broker import jetstream
from tenants.broker.provisioning import REFUSALS
from tenants.errors import TenantsError


class Command(PlainCommand):
    help = (
        "Compare all streams and consumers, the platform's and every tenant's, with their "
        "declarations. List what is missing, different or undeclared, and exit with 1 if any."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            found = jetstream.verify()
            besides = jetstream.undeclared()
        except (*REFUSALS, TenantsError) as error:
            raise CommandError(str(error)) from error
        for difference in found:
            self.stdout.write(difference)
        for each in besides:
            self.stdout.write(f"{each} is not declared: {_how_to_remove(each)}")
        cures = []
        if found:
            cures.append(f"{len(found)} differences: manage.py jetstream_init corrects them.")
        if besides:
            cures.append(f"{len(besides)} not declared: see above how to remove them.")
        if cures:
            raise CommandError(" ".join(cures))
        self.stderr.write("All is as declared.")


def _how_to_remove(each: jetstream.Undeclared) -> str:
    """Return the command to run, and what it deletes."""
    order = f"manage.py jetstream_init --remove {each.name}"
    if each.found.messages:
        return f"{order} --with-messages (it holds {each.found.messages} messages)"
    return order
