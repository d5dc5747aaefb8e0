"""Export all that a tenant has."""

import os
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from django.core.management.base import CommandError

from natsbridge.management.base import PlainCommand
from tenants.export.exports import export_now
from tenants.management import arguments


class Command(PlainCommand):
    help = (
        "Export all that a tenant has as JSON lines, without any secret: one line for each row, "
        "as of one moment. The last line says how many rows there are."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("tenant", help="the tenant's UUID or name")
        parser.add_argument(
            "--out", type=Path, help="write to this new file (mode 0600), not to standard output"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        tenant = arguments.tenant_named(options["tenant"])
        with _opened(options["out"]) as file:
            file.writelines(export_now(tenant, by=None))
        self.stderr.write(f"{tenant} is exported")


@contextmanager
def _opened(path: Path | None) -> Iterator[BinaryIO]:
    if path is None:
        yield sys.stdout.buffer
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise CommandError(f"Cannot write {path}: {error.strerror}") from error
    with os.fdopen(descriptor, "wb") as file:
        yield file
