"""Import devices that were registered elsewhere."""

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

from devices.errors import DevicesError
from devices.onboarding import rules
from devices.onboarding.imports import examine, import_devices
from natsbridge.management.base import PlainCommand
from tenants.management import arguments


class Command(PlainCommand):
    help = (
        "Import devices of another system into a tenant, under the UUIDs they have. The file is "
        "CSV with the columns uuid, name and, if wanted, group (a name or a UUID), hardware_info "
        "(a JSON object) and connection_type (node-red, unless it says otherwise). All devices are "
        "imported or none. Devices that are there already stay as they are."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("tenant", help="the tenant's UUID or name")
        parser.add_argument("file", type=Path, help="a CSV file, or - for standard input")
        parser.add_argument("--group", help="the group, by UUID or name, of rows that name none")
        parser.add_argument("--dry-run", action="store_true", help="only say what would be done")

    def handle(self, *args: Any, **options: Any) -> None:
        tenant = arguments.tenant_named(options["tenant"])
        group = arguments.group_named(tenant, options["group"]) if options["group"] else None
        read = rules.read_csv(self._content(options["file"]))
        try:
            if options["dry_run"]:
                report = examine(tenant, read, group=group)
            else:
                report = import_devices(tenant, read, group=group, by=None)
        except DevicesError as error:
            self._list(getattr(error, "errors", ()))
            raise CommandError(str(error)) from error
        self._list(report.errors)
        if report.errors:
            raise CommandError(f"{report.error_count:,} errors.")
        self.stdout.write(f"{report}{', nothing was written' if options['dry_run'] else ''}")

    def _content(self, file: Path) -> bytes:
        try:
            return sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        except OSError as error:
            raise CommandError(f"Cannot read {file}: {error.strerror}") from error

    def _list(self, errors: Any) -> None:
        for error in errors:
            self.stderr.write(str(error))
