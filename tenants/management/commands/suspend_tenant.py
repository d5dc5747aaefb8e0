"""Suspend a tenant."""

from argparse import ArgumentParser
from typing import Any

from natsbridge.management.base import PlainCommand
from tenants.actions.suspension import suspend_tenant
from tenants.management import arguments


class Command(PlainCommand):
    help = (
        "Suspend a tenant: its connections end, and all its logins are refused. A running "
        "subscriber tells the broker within a second. resume_tenant undoes it."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("tenant", help="the tenant's UUID or name")
        arguments.add_reason(parser, required=True)

    def handle(self, *args: Any, **options: Any) -> None:
        tenant = arguments.tenant_named(options["tenant"])
        suspend_tenant(tenant, by=None, reason=options["reason"])
        self.stderr.write(f"{tenant} is suspended")
