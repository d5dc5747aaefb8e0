"""Advisory locks by name, and the one way to notify."""

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest
from django.conf import settings
from django.db import connection, transaction

from natsbridge.postgres import locks
from natsbridge.postgres.locks import Lock

R = TypeVar("R")

pytestmark = pytest.mark.django_db(transaction=True)

# What only natsbridge/postgres says to the database.
STATEMENT = re.compile(r"pg_(?:try_)?advisory|pg_notify|execute\(f?\"NOTIFY")


def elsewhere(ask: Callable[[], R]) -> R:
    """Ask over a connection of somebody else's."""

    def asked() -> R:
        try:
            return ask()
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asked).result()


def is_free(name: Lock, of: object = "") -> bool:
    def ask() -> bool:
        with locks.held_if_free(name, of) as taken:
            return taken

    return elsewhere(ask)


def test_a_lock_is_one_callers_for_the_length_of_the_block() -> None:
    with locks.held_if_free(Lock.PRUNING) as taken:
        assert taken
        assert not is_free(Lock.PRUNING)
        assert is_free(Lock.RENEWALS)
    assert is_free(Lock.PRUNING)
    with locks.held(Lock.PRUNING):
        assert not is_free(Lock.PRUNING)
    assert is_free(Lock.PRUNING)


def test_a_block_that_fails_gives_its_lock_back() -> None:
    with pytest.raises(ZeroDivisionError), locks.held_if_free(Lock.PRUNING):
        raise ZeroDivisionError
    assert is_free(Lock.PRUNING)


def test_locks_of_different_things_do_not_meet() -> None:
    with locks.held(Lock.CLAIMS, "a"):
        assert not is_free(Lock.CLAIMS, "a")
        assert is_free(Lock.CLAIMS, "b")
        assert is_free(Lock.TENANT_STREAM, "a")


def test_a_transactions_lock_ends_with_it() -> None:
    with transaction.atomic():
        locks.lock(Lock.CREDENTIALS, "a")
        assert not is_free(Lock.CREDENTIALS, "a")
        assert locks.try_lock(Lock.CREDENTIALS, "b")
        assert not is_free(Lock.CREDENTIALS, "b")
    assert is_free(Lock.CREDENTIALS, "a")
    assert is_free(Lock.CREDENTIALS, "b")


def test_those_who_share_a_lock_keep_out_who_wants_it_alone() -> None:
    def shares() -> bool:
        with transaction.atomic():
            locks.lock(Lock.CREDENTIALS, "a", shared=True)
        return True

    with transaction.atomic():
        locks.lock(Lock.CREDENTIALS, "a", shared=True)
        assert elsewhere(shares)
        assert not is_free(Lock.CREDENTIALS, "a")


def test_no_other_module_locks_or_notifies_by_itself() -> None:
    apps = [settings.BASE_DIR / app for app in ("natsbridge", "tenants", "devices", "wegweiser")]
    found = [
        path for app in apps for path in app.rglob("*.py") if STATEMENT.search(path.read_text())
    ]
    assert sorted(path.relative_to(settings.BASE_DIR).as_posix() for path in found) == [
        "natsbridge/postgres/locks.py",
        "natsbridge/postgres/wakeups.py",
    ]
