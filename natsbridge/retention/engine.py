"""What is kept for how long: each app says which of its rows may go, and here they are removed.

Apps fill `retention` by decorators in their `pruning` modules, which the first use imports.
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
# Whoever holds a row that a batch has to change may keep it waiting this long.
LOCK_SECONDS = 5
# In UTC: each day's run begins at this hour, or when next there is a subscriber.
HOUR = 3

# The rows that may go at a moment; how many did, after each batch.
Old = Callable[[datetime], QuerySet[Any]]
Batches = Generator[int, None, None]
Removal = Callable[[datetime], Batches]
OldT = TypeVar("OldT", bound=Old)


@dataclass(frozen=True)
class Kind:
    """Rows of one kind. Without a `removal` of its own they are deleted in batches."""

    name: str
    old: Old
    removal: Removal | None = None

    def remove(self, now: datetime) -> Batches:
        return self.removal(now) if self.removal else _delete(self.old(now))


@dataclass(frozen=True)
class Outcome:
    """Of one kind. With a `problem` it was not finished; `rows` are gone all the same."""

    name: str
    rows: int
    problem: str = ""


class Retention:
    def __init__(self) -> None:
        self._kinds: dict[str, Kind] = {}

    def kind(self, name: str, *, removal: Removal | None = None) -> Callable[[OldT], OldT]:
        """The function says which rows of this kind may go."""

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
    """What `prune` would remove now."""
    now = timezone.now()
    return [_attempt(kind.name, partial(_counted, kind, now)) for kind in kinds]


def prune(kinds: list[Kind], *, stop: Callable[[], bool] = lambda: False) -> list[Outcome]:
    """Removes what may go, one kind after the other; one that fails does not keep the rest from
    it. When `stop` says so it ends after the present batch, and the run does not count.

    Raises AlreadyPruning, and what the database raises when it is away.
    """
    with _alone():
        return _prune(kinds, stop)


def prune_if_due(kinds: list[Kind], *, stop: Callable[[], bool] = lambda: False) -> list[Outcome]:
    """As `prune`, once a day: nothing if it has been done, or another process is doing it."""
    if not is_due():
        return []
    try:
        with _alone():
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
        # A generator of its own may have something to write down when it is left early.
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
    """In the order of their keys, so that what was looked at is not looked at again. A row that
    somebody holds is left for the next time."""
    rows = old.order_by("pk").select_for_update(skip_locked=True)
    remaining = rows
    while True:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'")
            keys = list(remaining.values_list("pk", flat=True)[:BATCH_ROWS])
            # Whole rows, of a megabyte perhaps, are nothing to read for this.
            old.model._base_manager.filter(pk__in=keys).only("pk").delete()
        if not keys:
            return
        yield len(keys)
        remaining = rows.filter(pk__gt=keys[-1])


@contextmanager
def _alone() -> Iterator[None]:
    """Raises AlreadyPruning."""
    with locks.held_if_free(Lock.PRUNING) as taken:
        if not taken:
            raise AlreadyPruning("Another process is pruning.")
        yield
