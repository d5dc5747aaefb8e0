"""List, rotate, revoke and reinstate the credentials of a device."""

from argparse import ArgumentParser
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.core.management.base import CommandError

from devices.enrolment import credentials
from devices.errors import DeviceArchived
from devices.models import Device
from natsbridge.management.base import PlainCommand
from tenants.errors import RotationRefused
from tenants.management import arguments
from tenants.rules.durations import USUAL_OVERLAP


class Command(PlainCommand):
    help = (
        "List a device's credentials for the broker. --rotate tells its agent to fetch a new one, "
        "--revoke revokes all of them and its token, and --reinstate undoes that. A running "
        "subscriber informs the broker within a second."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("device", type=UUID, help="the UUID of the device")
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
            raise CommandError("--reason is required; it is stored in the audit log.")
        was = device.revoked_at
        if options["revoke"]:
            credentials.revoke_device(device, by=None, reason=options["reason"])
            self.stderr.write(f"{device} was revoked already" if was else f"{device} is revoked")
        elif options["reinstate"]:
            try:
                credentials.reinstate_device(device, by=None)
            except DeviceArchived as error:
                raise CommandError(str(error)) from error
            self.stderr.write(f"{device} is reinstated" if was else f"{device} was not revoked")
        elif options["rotate"]:
            self._rotate(device, options["overlap"])
        self._list(device)

    def _rotate(self, device: Device, given: timedelta | None) -> None:
        overlap = USUAL_OVERLAP if given is None else given
        try:
            credentials.rotate_device(device, by=None, overlap=overlap)
        except RotationRefused as error:
            raise CommandError(str(error)) from error
        self.stderr.write(f"{device} is being rotated: its agent is told to fetch a new credential")

    def _list(self, device: Device) -> None:
        device.refresh_from_db()
        if device.revoked_at:
            by = f" by {device.revoked_by_name}" if device.revoked_by_name else ""
            since = f"{device.revoked_at:%F %T}"
            self.stdout.write(f"{device}: revoked since {since}{by}: {device.revoked_reason}")
        else:
            self.stdout.write(f"{device}: not revoked")
        if device.tenant.suspended_at:
            since = f"{device.tenant.suspended_at:%F %T}"
            self.stdout.write(
                f"{device.tenant} has been suspended since {since}: none of its devices can connect"
            )
        rows = device.tenant.credentials.filter(device_uuid=device.pk)
        for row in rows:
            self.stdout.write(arguments.line_of(row))
        if not rows:
            self.stderr.write(f"{device} has no credential")
