"""Delete old rows, of the kinds that apps register.

Apps register kinds with `retention.kind` in their `retention` modules, which the first use imports.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar

import structlog
from django.db import connection, transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.module_loading import autodiscover_modules

from natsbridge.errors import AlreadyPruning
from natsbridge.models import Pruning
from natsbridge.postgres import locks
from natsbridge.postgres.locks import Lock

log = structlog.get_logger(__name__)

BATCH_ROWS = 1000
# A batch waits for a row that another transaction holds no longer than this.
LOCK_SECONDS = 5
# In UTC: each day's run begins at this hour, or when a subscriber runs again.
HOUR = 3

# Returns the rows that may be deleted at a moment. Batches yield how many rows each deleted.
Old = Callable[[datetime], QuerySet[Any]]
Batches = Generator[int, None, None]
Removal = Callable[[datetime], Batches]
OldT = TypeVar("OldT", bound=Old)


@dataclass(frozen=True)
class Kind:
    """One kind of rows. Without a `removal` of its own they are deleted in batches."""

    name: str
    old: Old
    removal: Removal | None = None

    def remove(self, now: datetime) -> Batches:
        return self.removal(now) if self.removal else _delete(self.old(now))


@dataclass(frozen=True)
class Outcome:
    """The outcome for one kind: `rows` were deleted, all of them unless there is a `problem`."""

    name: str
    rows: int
    problem: str = ""


class Retention:
    def __init__(self) -> None:
        self._kinds: dict[str, Kind] = {}

    def kind(self, name: str, *, removal: Removal | None = None) -> Callable[[OldT], OldT]:
        """Register a function that returns the rows of this kind that may be deleted."""

        def register(old: OldT) -> OldT:
            if name in self._kinds:
                raise ValueError(f"{name!r} is registered twice")
            self._kinds[name] = Kind(name, old, removal)
            return old

        return register

    @property
    def kinds(self) -> list[Kind]:
        autodiscover_modules("retention", "retention.kinds")
        return list(self._kinds.values())


retention = Retention()


def count(kinds: list[Kind]) -> list[Outcome]:
    """Count what `prune` would delete now."""
    now = timezone.now()
    return [_attempt(kind.name, partial(_counted, kind, now)) for kind in kinds]


def prune(kinds: list[Kind], *, stop: Callable[[], bool] = lambda: False) -> list[Outcome]:
    """Delete what may be deleted, kind by kind; one that fails does not stop the others.

    When `stop` returns true the run ends after the current batch, and another one is still due.
    Raise AlreadyPruning, and what Django raises while the database is away.
    """
    with _pruning_lock():
        return _prune(kinds, stop)


def prune_if_due(kinds: list[Kind], *, stop: Callable[[], bool] = lambda: False) -> list[Outcome]:
    """Prune once a day; do nothing if it was done today, or if another process is doing it."""
    if not is_due():
        return []
    try:
        with _pruning_lock():
            return _prune(kinds, stop) if is_due() else []
    except AlreadyPruning:
        return []


def is_due() -> bool:
    last = last_run()
    now = timezone.now().astimezone(UTC)
    today = now.replace(hour=HOUR, minute=0, second=0, microsecond=0)
    return last is None or last.began_at < (today if now >= today else today - timedelta(days=1))


def last_run() -> Pruning | None:
    return Pruning.objects.first()


def _prune(kinds: list[Kind], stop: Callable[[], bool]) -> list[Outcome]:
    began_at = timezone.now()
    outcomes: list[Outcome] = []
    for kind in kinds:
        outcomes.append(_attempt(kind.name, partial(kind.remove, began_at), stop))
        if stop():
            return outcomes
    outcome = {each.name: {"rows": each.rows, "problem": each.problem} for each in outcomes}
    Pruning.objects.update_or_create(
        defaults={"began_at": began_at, "finished_at": timezone.now(), "outcome": outcome}
    )
    return outcomes


def _attempt(
    name: str, work: Callable[[], Batches], stop: Callable[[], bool] = lambda: False
) -> Outcome:
    rows = 0
    try:
        # A `removal` may have something to record when it is ended early.
        with closing(work()) as batches:
            for done in batches:
                rows += done
                if stop():
                    break
    except Exception as error:
        log.exception("pruning failed", kind=name, rows=rows)
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()
        return Outcome(name, rows, f"{type(error).__name__}: {error}".strip()[:500])
    return Outcome(name, rows)


def _counted(kind: Kind, now: datetime) -> Batches:
    yield kind.old(now).count()


def _delete(old: QuerySet[Any]) -> Batches:
    """Delete the rows in the order of their keys, so that none is looked at twice.

    A row that another transaction holds is left for the next run.
    """
    rows = old.order_by("pk").select_for_update(skip_locked=True)
    remaining = rows
    while True:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")
            keys = list(remaining.values_list("pk", flat=True)[:BATCH_ROWS])
            # Only keys, since a whole row may have a megabyte.
            old.model._base_manager.filter(pk__in=keys).only("pk").delete()
        if not keys:
            return
        yield len(keys)
        remaining = rows.filter(pk__gt=keys[-1])


@contextmanager
def _pruning_lock() -> Iterator[None]:
    """Hold the lock of pruning, or raise AlreadyPruning."""
    with locks.held_if_free(Lock.PRUNING) as taken:
        if not taken:
            raise AlreadyPruning("Another process is pruning.")
        yield
