"""What the commands about credentials share: reading their arguments, writing their secrets."""

import os
from argparse import ArgumentParser, ArgumentTypeError
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db.models import Q

from tenants.actions.credentials import Issued
from tenants.durations import USUAL_OVERLAP, parse_overlap
from tenants.models import Credential, Tenant


def tenant_named(text: str) -> Tenant:
    """By uuid or name. Raises CommandError."""
    by_name = Q(name=text)
    try:
        tenant = Tenant.objects.filter(by_name | Q(pk=UUID(text))).first()
    except (ValueError, ValidationError):
        tenant = Tenant.objects.filter(by_name).first()
    if tenant is None:
        raise CommandError(f"There is no tenant {text!r}.")
    return tenant


def overlap(text: str) -> timedelta:
    try:
        return parse_overlap(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is no overlap. {error}") from error


def add_secret(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--out",
        type=Path,
        help="write the credential there (mode 0600) instead of to standard output",
    )
    parser.add_argument(
        "--password",
        action="store_true",
        help="a username and a password instead of a .creds file",
    )


def add_overlap(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--overlap",
        type=overlap,
        metavar="LENGTH",
        default=USUAL_OVERLAP,
        help="rotating: how long older ones work on, such as 30m, 24h (the default), 7d or 0; "
        "they end earlier once the new one has been used",
    )


def put_out(command: BaseCommand, issued: Issued, path: Path | None) -> None:
    """Raises CommandError."""
    text = issued.secret
    if issued.credential.kind == Credential.Kind.PASSWORD:
        text = f"{issued.username}\n{issued.secret}"
    if path is None:
        command.stdout.write(text)
    else:
        write_secret(path, text)
        command.stderr.write(f"credential written to {path}")


def write_secret(path: Path, text: str) -> None:
    """Never readable to others, not even for a moment, and whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
        temporary.replace(path)
    except OSError as error:
        raise CommandError(f"Cannot write {path}: {error.strerror}") from error


def line_of(row: Credential) -> str:
    """One credential as a line of a list; no secret is in it."""
    parts = [f"{row.pk:>6}", f"{row.kind:8}", f"{row.state:7}", f"issued {row.issued_at:%F %T}"]
    if row.last_used_at:
        parts.append(f"last used {row.last_used_at:%F %T}")
    if row.ended_at:
        by = f" by {row.ended_by}" if row.ended_by else ""
        parts.append(f"ended {row.ended_at:%F %T}{by}: {row.end_reason}")
    elif row.ends_at:
        parts.append(f"ends {row.ends_at:%F %T}")
    return "  ".join(parts)
