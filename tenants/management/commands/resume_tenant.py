"""Resume a suspended tenant."""

from argparse import ArgumentParser
from typing import Any

from natsbridge.management.base import PlainCommand
from tenants.actions.suspension import resume_tenant
from tenants.management import arguments


class Command(PlainCommand):
    help = "Resume a suspended tenant: its credentials are valid at the broker again."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("tenant", help="the tenant's UUID or name")

    def handle(self, *args: Any, **options: Any) -> None:
        tenant = arguments.tenant_named(options["tenant"])
        resumed = resume_tenant(tenant, by=None)
        self.stderr.write(f"{tenant} is resumed" if resumed else f"{tenant} was not suspended")
