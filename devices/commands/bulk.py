"""Issue one command to many devices; preview, follow, cancel and retry it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from django.db import transaction
from django.db.models import Count, Exists, OuterRef, Q
from django.utils import timezone

from devices.commands import expansion
from devices.commands.issue import (
    allowed_time,
    end_by_person,
    latest,
    refuse_if_suspended,
    refuse_unfit,
)
from devices.commands.rules.states import COMMAND_STATES, WAITING
from devices.errors import CommandConflict, CommandRefused
from devices.live import frames
from devices.models import BulkCommand, Command, CommandState
from devices.models.device import DeviceQuerySet
from devices.presence.coverage import current_cutoffs
from devices.presence.rules import Cutoffs, Status
from tenants.actions.idempotency import IdempotencyKey, claim_of_person, finish
from tenants.audit.writer import record_action
from tenants.models import Action, IdempotentRequest, Tenant, User
from tenants.origin import current_origin

MAX_DEVICES = 100_000

NO_ROLE = "not allowed"
REVOKED = "revoked"
ARCHIVED = "archived"
SUSPENDED = "the tenant is suspended"
NOT_OFFERED = "does not offer it"
UNISSUED = "cancelled before it was issued"


@dataclass(frozen=True)
class Targets:
    """The devices of a bulk command, all of one tenant.

    `words` describe them, and `selection` is how they were chosen. `elsewhere` counts chosen
    devices that the person may not command.
    """

    tenant: Tenant
    devices: DeviceQuerySet
    words: str
    selection: Mapping[str, Any]
    elsewhere: int = 0


@dataclass(frozen=True)
class Preview:
    """How many devices would get the command, by status, and how many would not, by reason."""

    by_status: dict[Status, int]
    left_out: dict[str, int]

    @property
    def total(self) -> int:
        return sum(self.by_status.values())


def preview(targets: Targets, command: str) -> Preview:
    """Count the devices that would get the command now."""
    cutoffs = current_cutoffs()
    able = _able(targets, command)
    counts = {status: able.with_status(status, cutoffs).count() for status in Status}
    return Preview(counts, _left_out(targets, command))


def issue(
    targets: Targets,
    command: str,
    parameters: dict[str, Any],
    *,
    by: User,
    deadline: datetime | None = None,
    idempotency_key: IdempotencyKey | None = None,
) -> tuple[BulkCommand, bool]:
    """Issue a bulk command; return it, and whether it is new. A person's idempotency key returns
    the bulk command that it issued before.

    The caller has checked that `by` may command devices of the tenant; it is checked again when
    each command is sent. Raise CommandRefused or IdempotencyKeyReused.
    """
    with transaction.atomic():
        claimed = claim_of_person(by, idempotency_key)
        bulk = _issued_before(claimed)
        new = bulk is None
        if bulk is None:
            bulk = _create(targets, command, parameters, by=by, deadline=deadline)
            finish(claimed, bulk.uuid)
    # A second request may come before the first one has expanded it, and answers the same.
    expansion.expand(bulk)
    return bulk, new


class Ended(NamedTuple):
    """How many commands of a bulk command were cancelled, and how many given up."""

    cancelled: int
    given_up: int


def cancel(bulk: BulkCommand, *, by: User) -> Ended:
    """Cancel its waiting commands, and give up those sent to devices that are offline now."""
    with transaction.atomic():
        row = BulkCommand.objects.select_for_update(of=("self",)).get(pk=bulk.pk)
        rest = len(row.waiting)
        if rest:
            row.left_out[UNISSUED] = rest
        row.waiting, row.cancelled_at = [], timezone.now()
        row.expanded_at = row.expanded_at or row.cancelled_at
        row.save(update_fields=["waiting", "cancelled_at", "expanded_at", "left_out"])
    ended = Ended(rest, 0)
    cutoffs = current_cutoffs()
    while sum(some := _end_some(row, by, cutoffs)):
        ended = Ended(ended.cancelled + some.cancelled, ended.given_up + some.given_up)
    with transaction.atomic():
        _record(Action.BULK_CANCELLED, row, by, **ended._asdict())
    return ended


def to_give_up(bulk: BulkCommand) -> int:
    """Return how many of its commands `cancel` would give up."""
    return Command.objects.filter(bulk=bulk).handed_to_offline_devices(current_cutoffs()).count()


def retry(
    bulk: BulkCommand, *, by: User, idempotency_key: IdempotencyKey | None = None
) -> tuple[BulkCommand, bool]:
    """Issue it again to the devices on which it failed or expired and was not retried since.

    Return as `issue` does. Raise CommandRefused, CommandConflict if there are none, or
    IdempotencyKeyReused.
    """
    with transaction.atomic():
        claimed = claim_of_person(by, idempotency_key)
        again = _issued_before(claimed)
        new = again is None
        if again is None:
            again = _create_retry(bulk, by=by)
            finish(claimed, again.uuid)
    expansion.expand(again)
    return again, new


def failed(bulk: BulkCommand) -> Any:
    """Return its commands that a retry would issue again."""
    retried = Command.objects.filter(retry_of=OuterRef("pk"))
    return Command.objects.filter(
        ~Exists(retried),
        bulk=bulk,
        state__in=[CommandState.FAILED, CommandState.EXPIRED],
        device__revoked_at=None,
        device__tenant__suspended_at=None,
    )


def progress(bulk: BulkCommand) -> dict[str, int]:
    """Count its commands by state; those that have no row yet are queued."""
    counts = progress_of([bulk])[bulk.pk]
    counts[COMMAND_STATES.initial] += len(bulk.waiting)
    return counts


def progress_of(bulks: Iterable[BulkCommand]) -> dict[int, dict[str, int]]:
    """Count the commands of several bulk commands by state, of those that have a row."""
    counts = {row.pk: dict.fromkeys((each.value for each in CommandState), 0) for row in bulks}
    rows = Command.objects.filter(bulk__in=counts).order_by().values_list("bulk", "state")
    for number, state, count in rows.annotate(Count("id")):
        counts[number][state] = count
    return counts


def _able(targets: Targets, command: str) -> DeviceQuerySet:
    return _reachable(targets).offering(command)


def _reachable(targets: Targets) -> DeviceQuerySet:
    return targets.devices.filter(revoked_at=None, tenant__suspended_at=None)


def _left_out(targets: Targets, command: str) -> dict[str, int]:
    archived = targets.devices.exclude(archived_at=None)
    revoked = targets.devices.in_fleet().exclude(revoked_at=None)
    suspended = targets.devices.filter(revoked_at=None).exclude(tenant__suspended_at=None)
    reachable = _reachable(targets)
    counts = {
        NO_ROLE: targets.elsewhere,
        ARCHIVED: archived.count(),
        REVOKED: revoked.count(),
        SUSPENDED: suspended.count(),
        NOT_OFFERED: reachable.count() - reachable.offering(command).count(),
    }
    return {reason: count for reason, count in counts.items() if count}


def _issued_before(claimed: IdempotentRequest | None) -> BulkCommand | None:
    return BulkCommand.objects.get(uuid=claimed.outcome) if claimed and claimed.outcome else None


def _create(
    targets: Targets,
    command: str,
    parameters: dict[str, Any],
    *,
    by: User,
    deadline: datetime | None,
) -> BulkCommand:
    refuse_if_suspended(targets.tenant)
    refuse_unfit(parameters)
    waiting = list(_able(targets, command).order_by("pk").values_list("pk", flat=True))
    if not waiting:
        raise CommandRefused("No device would get this command.")
    if len(waiting) > MAX_DEVICES:
        raise CommandRefused(
            f"At most {MAX_DEVICES:,} devices at once; this selection has {len(waiting):,}."
        )
    bulk = BulkCommand.objects.create(
        tenant=targets.tenant,
        command=command,
        parameters=parameters,
        target=targets.words[:300],
        selection=dict(targets.selection),
        created_by=by,
        deadline=latest(deadline),
        left_out=_left_out(targets, command),
        waiting=waiting,
        request_id=current_origin().request_id,
    )
    left_out = sum(bulk.left_out.values())
    _record(Action.BULK_ISSUED, bulk, by, devices=len(waiting), left_out=left_out)
    return bulk


def _create_retry(bulk: BulkCommand, *, by: User) -> BulkCommand:
    row = BulkCommand.objects.select_for_update(of=("self",)).get(pk=bulk.pk)
    refuse_if_suspended(row.tenant)
    refuse_unfit(row.parameters)
    if row.retries.filter(expanded_at=None).exists():
        raise CommandConflict(
            "A retry of this bulk command is still being issued; try again when it is done."
        )
    waiting = list(failed(row).order_by("device_id").values_list("device_id", flat=True))
    if not waiting:
        raise CommandConflict(
            "Every command of it that failed or expired has been retried already."
        )
    again = BulkCommand.objects.create(
        tenant_id=row.tenant_id,
        command=row.command,
        parameters=row.parameters,
        target=f"where it failed: {row.target}"[:300],
        selection={"failed_of": str(row.uuid)},
        created_by=by,
        deadline=timezone.now() + allowed_time(row),
        waiting=waiting,
        retry_of=row,
        request_id=current_origin().request_id,
    )
    _record(Action.BULK_RETRIED, again, by, retry_of=str(row.uuid), devices=len(waiting))
    return again


@transaction.atomic
def _end_some(bulk: BulkCommand, by: User, cutoffs: Cutoffs) -> Ended:
    own = Command.objects.filter(bulk=bulk)
    ending = own.filter(
        Q(state__in=WAITING) | Q(pk__in=own.handed_to_offline_devices(cutoffs).values("pk"))
    )
    locked = ending.select_for_update(skip_locked=True, of=("self",))
    rows = list(locked.defer("parameters", "result")[: expansion.BATCH])
    given_up = end_by_person(rows, by)
    transaction.on_commit(lambda: frames.push_commands(rows))
    return Ended(len(rows) - given_up, given_up)


def _record(action: Action, bulk: BulkCommand, by: User | None, **detail: Any) -> None:
    """Record the action without the parameters, which may contain a secret."""
    record_action(
        action,
        tenant=bulk.tenant_id,
        by=by,
        target=bulk.target,
        detail={"command": bulk.command, "bulk_id": str(bulk.uuid), **detail},
    )
