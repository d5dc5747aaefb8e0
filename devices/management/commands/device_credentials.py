"""What one device holds: listed, renewed, revoked, given back."""

from argparse import ArgumentParser
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError

from devices.actions import credentials
from devices.models import Device
from tenants.errors import RotationRefused
from tenants.management import arguments
from tenants.models import Credential


class Command(BaseCommand):
    help = (
        "Lists a device's credentials for the broker. --rotate has its agent fetch a new one, "
        "--revoke ends them all and its token with them, --reinstate undoes that. A running "
        "subscriber tells the broker within a second."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("device", type=UUID, help="the device's uuid")
        one_of = parser.add_mutually_exclusive_group()
        for name in ("--rotate", "--revoke", "--reinstate"):
            one_of.add_argument(name, action="store_true")
        arguments.add_overlap(parser)
        parser.add_argument("--reason", help="--revoke: why; it is kept")

    def handle(self, *args: Any, **options: Any) -> None:
        device = Device.objects.filter(pk=options["device"]).first()
        if device is None:
            raise CommandError(f"There is no device {options['device']}.")
        if options["revoke"] and not options["reason"]:
            raise CommandError("Say why, with --reason; it is kept.")
        if options["revoke"]:
            credentials.revoke_device(device, by=None, reason=options["reason"])
        elif options["reinstate"]:
            credentials.reinstate_device(device, by=None)
        elif options["rotate"]:
            try:
                credentials.rotate_device(device, by=None, overlap=options["overlap"])
            except RotationRefused as error:
                raise CommandError(str(error)) from error
        rows = Credential.objects.filter(device_uuid=device.pk).select_related("ended_by")
        for row in rows:
            self.stdout.write(arguments.line_of(row))
