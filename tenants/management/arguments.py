"""Arguments and output that the commands about tenants and credentials share."""

import os
from argparse import ArgumentParser, ArgumentTypeError
from datetime import timedelta
from pathlib import Path
from typing import Any, Self
from uuid import UUID

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db.models import Q

from tenants.credentials.issue import Issued
from tenants.models import Credential, Group, Tenant
from tenants.rules.durations import parse_overlap


def tenant_named(text: str) -> Tenant:
    """Return the tenant with this UUID or name. Raises CommandError."""
    by_name = Q(name=text)
    try:
        tenant = Tenant.objects.filter(by_name | Q(pk=UUID(text))).first()
    except (ValueError, ValidationError):
        tenant = Tenant.objects.filter(by_name).first()
    if tenant is None:
        raise CommandError(f"There is no tenant {text!r}. Give its UUID or its exact name.")
    return tenant


def group_named(tenant: Tenant, text: str) -> Group:
    """Return the tenant's group with this UUID or name. Raises CommandError."""
    groups = Group.objects.filter(tenant=tenant)
    try:
        found = list(groups.filter(Q(name=text) | Q(pk=UUID(text))))
    except ValueError:
        found = list(groups.filter(name=text))
    if len(found) > 1:
        raise CommandError(f"{tenant} has {len(found)} groups called {text!r}. Give a UUID.")
    if not found:
        raise CommandError(f"{tenant} has no group {text!r}. Give its UUID or its exact name.")
    return found[0]


def overlap(text: str) -> timedelta:
    try:
        return parse_overlap(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is not a valid overlap. {error}") from error


def add_secret(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--out",
        type=Path,
        help="write the credential to this file (mode 0600) instead of standard output",
    )
    parser.add_argument(
        "--password",
        action="store_true",
        help="issue a username and a password instead of a .creds file",
    )


def add_overlap(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--overlap",
        type=overlap,
        metavar="LENGTH",
        help="how long older credentials stay valid during a rotation, such as 30m, 24h (the "
        "default), 7d or 0; they end earlier once the new one has been used",
    )


def add_reason(parser: ArgumentParser, *, required: bool = False) -> None:
    text = "the reason, which is stored in the audit log"
    if not required:
        text = f"with --revoke: {text}"
    parser.add_argument("--reason", type=reason, required=required, help=text)


def reason(text: str) -> str:
    if not text.strip():
        raise ArgumentTypeError("it must not be empty; it is stored in the audit log")
    return text.strip()


def refuse_idle(options: dict[str, Any], goes_with: dict[str, tuple[str, ...]]) -> None:
    """Raise CommandError for an option that would do nothing.

    `goes_with` has by option those others of which one has to be given too.
    """
    given = {name for name, value in options.items() if value is not None and value is not False}
    for name, others in goes_with.items():
        if name in given and not given & set(others):
            named = " or ".join(f"--{other.replace('_', '-')}" for other in others)
            raise CommandError(f"--{name} has an effect only with {named}.")


class SecretOutput:
    """Writes a credential. The file is checked before the issue, which may end older ones."""

    def __init__(self, command: BaseCommand, path: Path | None) -> None:
        self._command = command
        self._path = path
        self._temporary: Path | None = None

    def __enter__(self) -> Self:
        """Create a temporary file beside the path. Raises CommandError."""
        path = self._path
        if path is None:
            return self
        if path.is_dir():
            raise CommandError(f"Cannot write {path}: it is a directory.")
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except OSError as error:
            raise CommandError(f"Cannot write {path}: {error.strerror}") from error
        self._temporary = temporary
        return self

    def __exit__(self, *_: object) -> None:
        if self._temporary:
            self._temporary.unlink(missing_ok=True)

    def put(self, issued: Issued) -> None:
        """Write the credential as a whole, and never readable to others.

        If that fails, write it to standard output and raise CommandError.
        """
        text = issued.secret
        if issued.credential.kind == Credential.Kind.PASSWORD:
            text = f"{issued.username}\n{issued.secret}"
        if self._temporary is None or self._path is None:
            self._command.stdout.write(text)
            return
        try:
            self._temporary.write_text(text)
            self._temporary.replace(self._path)
        except OSError as error:
            self._command.stdout.write(text)
            raise CommandError(
                f"Cannot write {self._path}: {error.strerror}. The new credential is on standard "
                "output instead."
            ) from error
        self._command.stderr.write(f"credential written to {self._path}")


def line_of(row: Credential) -> str:
    """Return a credential as one line of a list, without any secret."""
    parts = [f"{row.pk:>6}", f"{row.kind:8}", f"{row.state:9}", f"issued {row.issued_at:%F %T}"]
    if row.last_used_at:
        parts.append(f"last used {row.last_used_at:%F %T}")
    if row.ended_at:
        by = f" by {row.ended_by_name}" if row.ended_by_name else ""
        parts.append(f"ended {row.ended_at:%F %T}{by}: {row.end_reason}")
    elif row.ends_at:
        parts.append(f"ends {row.ends_at:%F %T}")
    return "  ".join(parts)
