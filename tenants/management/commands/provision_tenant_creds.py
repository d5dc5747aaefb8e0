"""Gives a tenant its place at the broker, and its credential."""

import os
from argparse import ArgumentParser
from pathlib import Path
from typing import Any
from uuid import UUID

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db.models import Q

from tenants import broker, provisioning
from tenants.models import Tenant


class Command(BaseCommand):
    help = (
        "Makes or repairs a tenant's account at the broker and its stream, and writes a new "
        "credential of the tenant. Safe to repeat; says what it changed."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("tenant", help="the tenant's uuid or name")
        parser.add_argument(
            "--out",
            type=Path,
            help="write the credential there (mode 0600) instead of to standard output",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        tenant = _find(options["tenant"])
        try:
            changes = provisioning.provision(tenant)
            credentials = broker.tenant_credentials(tenant)
        except provisioning.REFUSALS as error:
            raise CommandError(f"{tenant} is not provisioned: {error}") from error
        for change in changes or ["nothing to change at the broker"]:
            self.stderr.write(change)
        if options["out"] is None:
            self.stdout.write(credentials)
        else:
            _write_secret(options["out"], credentials)
            self.stderr.write(f"credential written to {options['out']}")


def _find(text: str) -> Tenant:
    by_name = Q(name=text)
    try:
        tenant = Tenant.objects.filter(by_name | Q(pk=UUID(text))).first()
    except (ValueError, ValidationError):
        tenant = Tenant.objects.filter(by_name).first()
    if tenant is None:
        raise CommandError(f"There is no tenant {text!r}.")
    return tenant


def _write_secret(path: Path, text: str) -> None:
    """Never readable to others, not even for a moment, and whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        temporary.replace(path)
    except OSError as error:
        raise CommandError(f"Cannot write {path}: {error.strerror}") from error
