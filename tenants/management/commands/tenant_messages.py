"""Print the messages of a tenant's devices that its own stream still holds."""

import json
from argparse import ArgumentParser, ArgumentTypeError
from datetime import datetime
from typing import Any
from uuid import UUID

from django.core.management.base import CommandError
from django.utils import timezone

from natsbridge.errors import BridgeError
from natsbridge.management.base import PlainCommand
from tenants.broker.replay_window import KIND_NAMES, Wanted, read_messages
from tenants.errors import TenantsError
from tenants.management.arguments import tenant_named
from tenants.rules.durations import parse_length


class Command(PlainCommand):
    help = (
        "Print a tenant's replay window as JSON lines, oldest first: what its devices sent and "
        "were sent in the last 24 hours, at most 10,000 messages. The audit log records it."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("tenant", metavar="TENANT", help="UUID or exact name")
        parser.add_argument(
            "--since", type=_ago, metavar="LENGTH", help="only what is this recent: 30m, 2h, 1d"
        )
        parser.add_argument("--device", type=_uuid, metavar="UUID", help="only this device's")
        parser.add_argument("--kind", choices=KIND_NAMES, help="only messages of this kind")

    def handle(self, *args: Any, tenant: str, **options: Any) -> None:
        wanted = Wanted(options["since"], options["device"], options["kind"])
        try:
            number = read_messages(tenant_named(tenant), wanted, self._print)
        except (BridgeError, TenantsError) as error:
            raise CommandError(str(error)) from error
        self.stderr.write(f"{number} messages")

    def _print(self, message: dict[str, Any]) -> None:
        self.stdout.write(json.dumps(message))


def _ago(text: str) -> datetime:
    try:
        return timezone.now() - parse_length(text)
    except (ValueError, OverflowError) as error:
        raise ArgumentTypeError(f"{text!r} is not a length of time. {error}") from error


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is not a valid UUID.") from error
