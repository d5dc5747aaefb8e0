"""What one device holds: listed, renewed, revoked, given back."""

from argparse import ArgumentParser
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError

from devices.actions import credentials
from devices.models import Device
from tenants.durations import USUAL_OVERLAP
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
        arguments.add_reason(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        arguments.refuse_idle(options, {"overlap": ("rotate",), "reason": ("revoke",)})
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
                given = options["overlap"]
                overlap = USUAL_OVERLAP if given is None else given
                credentials.rotate_device(device, by=None, overlap=overlap)
            except RotationRefused as error:
                raise CommandError(str(error)) from error
        rows = Credential.objects.filter(device_uuid=device.pk)
        for row in rows:
            self.stdout.write(arguments.line_of(row))
        if not rows:
            self.stderr.write(f"{device} has no credential on record")
