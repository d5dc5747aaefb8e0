"""Whether the streams and consumers at the broker are as they are declared."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from tenants import jetstream
from tenants.errors import TenantsError
from tenants.provisioning import REFUSALS


class Command(BaseCommand):
    help = (
        "Compares all streams and consumers, the platform's and every tenant's, with what is "
        "declared: names what is missing, changed or not declared, and then exits with 1."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            found = jetstream.verify()
        except (*REFUSALS, TenantsError) as error:
            raise CommandError(str(error)) from error
        for difference in found:
            self.stdout.write(difference)
        if found:
            raise CommandError(f"{len(found)} differences; manage.py jetstream_init mends them.")
        self.stderr.write("All as declared.")
