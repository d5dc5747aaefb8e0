"""Take advisory locks of Postgres, for what only one process at a time may do."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum

from django.db import Error as AnyDatabaseError
from django.db import connection


class Lock(StrEnum):
    """Every advisory lock of the platform. `of` names what it is about, where there are many."""

    # For one process of all.
    AUDIT_CHAIN = "audit chain"
    COMMAND_DEADLINES = "command deadlines"
    DEVICE_IMPORT = "device import"
    EXPORTS = "exports"
    PRESENCE_LIST = "presence list"
    PRUNING = "pruning"
    RENEWALS = "renewals"
    # For one tenant, or one of its devices.
    CLAIMS = "claims"
    CREDENTIALS = "credentials"
    DEVICE_KEY = "device key"
    TENANT_DEVICES = "tenant devices"
    TENANT_STREAM = "tenant stream"


def lock(name: Lock, of: object = "", *, shared: bool = False) -> None:
    """Wait for the lock and keep it until the caller's transaction ends."""
    _execute(f"pg_advisory_xact_lock{'_shared' if shared else ''}", name, of)


def try_lock(name: Lock, of: object = "") -> bool:
    """Return whether the lock is the caller's until its transaction ends; do not wait for it."""
    return _execute("pg_try_advisory_xact_lock", name, of)


@contextmanager
def held(name: Lock, of: object = "") -> Iterator[None]:
    """Wait for the lock and keep it for the length of the block, whatever its transactions."""
    wait_for(name, of)
    try:
        yield
    finally:
        release(name, of)


@contextmanager
def held_if_free(name: Lock, of: object = "") -> Iterator[bool]:
    """Say whether the lock is the caller's for the length of the block; do not wait for it."""
    taken = take(name, of)
    try:
        yield taken
    finally:
        if taken:
            # A connection that was lost has lost the lock as well.
            with suppress(AnyDatabaseError):
                release(name, of)


def wait_for(name: Lock, of: object = "") -> None:
    """Wait for the lock and keep it until `release` in the same thread."""
    _execute("pg_advisory_lock", name, of)


def take(name: Lock, of: object = "") -> bool:
    """Return whether the lock is the caller's until `release` in the same thread."""
    return _execute("pg_try_advisory_lock", name, of)


def release(name: Lock, of: object = "") -> None:
    _execute("pg_advisory_unlock", name, of)


def _execute(function: str, name: Lock, of: object) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {function}(hashtextextended(%s, 0))", [f"{name} {of}"])
        return bool(cursor.fetchone()[0])
