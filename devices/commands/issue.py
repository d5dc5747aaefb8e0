"""Issue, retry and cancel commands for people. The subscriber delivers them, see `delivery`."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from devices.commands.rules import json_values
from devices.errors import CommandConflict, CommandRefused, UnfitJson
from devices.live import frames
from devices.models import OPEN_STATES, Command, CommandState, Device
from devices.models.command import Move
from natsbridge.postgres.wakeups import notify
from tenants.actions.idempotency import IdempotencyKey, claim_of_person, finish
from tenants.audit.writer import record_action
from tenants.models import Action, IdempotentRequest, Tenant, User
from tenants.origin import current_origin

# The channel that tells subscribers that commands are waiting.
COMMANDS_CHANNEL = "wegweiser_commands"

MAX_DEADLINE = timedelta(days=30)


@transaction.atomic
def issue(
    device: Device,
    command: str,
    parameters: dict[str, Any],
    *,
    by: User,
    deadline: datetime | None = None,
) -> Command:
    """Issue a command that waits for its device until `deadline`, or COMMAND_DEADLINE_SECONDS.

    The caller has checked that `by` may command the device; it is checked again when it is sent.
    Raise CommandRefused.
    """
    return issue_once(None, device, command, parameters, by=by, deadline=deadline)[0]


@transaction.atomic
def issue_once(
    key: IdempotencyKey | None,
    device: Device,
    command: str,
    parameters: dict[str, Any],
    *,
    by: User,
    deadline: datetime | None = None,
) -> tuple[Command, bool]:
    """Issue a command as `issue` does; return it, and whether it is new. A person's key returns the
    command that it issued before. Raise IdempotencyKeyReused."""
    if known := _issued_before(claimed := claim_of_person(by, key)):
        return known, False
    row = Command(
        device=device,
        command=command,
        parameters=parameters,
        created_by=by,
        deadline=latest(deadline),
        request_id=current_origin().request_id,
    )
    _issue(Action.COMMAND_ISSUED, row, by)
    finish(claimed, row.uuid)
    return row, True


def retry(command: Command, *, by: User) -> Command:
    """Issue a command again, with as much time as the first had.

    The caller has checked that `by` may command the device. Raise CommandRefused, or
    CommandConflict while the first is open.
    """
    return retry_once(None, command, by=by)[0]


@transaction.atomic
def retry_once(key: IdempotencyKey | None, command: Command, *, by: User) -> tuple[Command, bool]:
    """Retry as `retry` does, with the key and the return value of `issue_once`."""
    if known := _issued_before(claimed := claim_of_person(by, key)):
        return known, False
    if command.is_open:
        state = command.get_state_display().lower()
        raise CommandConflict(f"The command is {state}; only one that has ended can be retried.")
    again = Command(
        device=command.device,
        command=command.command,
        parameters=command.parameters,
        created_by=by,
        deadline=timezone.now() + allowed_time(command),
        retry_of=command,
        request_id=current_origin().request_id,
    )
    _issue(Action.COMMAND_RETRIED, again, by, retry_of=str(command.uuid))
    finish(claimed, again.uuid)
    return again, True


@transaction.atomic
def cancel(command: Command, *, by: User) -> None:
    """Cancel a waiting command, give up a sent one. Raise CommandConflict if it has ended."""
    rows = Command.objects.select_for_update(of=("self",)).select_related("device")
    row = rows.filter(pk=command.pk, state__in=OPEN_STATES).first()
    if row is None:
        command.refresh_from_db(fields=["state"])
        raise CommandConflict(f"The command is {command.get_state_display().lower()} already.")
    given_up = end_by_person([row], by)
    _record(Action.COMMAND_CANCELLED, row, by, **({"given_up": True} if given_up else {}))
    transaction.on_commit(lambda: frames.push_commands([row]))


def end_by_person(rows: Sequence[Command], by: User) -> int:
    """End open commands, which the caller has locked; return how many were given up. Those have
    failed, until a late result corrects that."""
    now, moves = timezone.now(), []
    for row in rows:
        given_up = row.is_handed_over
        state = CommandState.FAILED if given_up else CommandState.CANCELLED
        changes = {
            "unanswered": given_up,
            "error": f"{'given up' if given_up else 'cancelled'} by {by.get_username()}",
            "finished_at": now,
        }
        row.become(state, **changes)
        moves.append(Move(row.uuid, state, changes))
    Command.move_each(moves)
    return sum(row.unanswered for row in rows)


def latest(deadline: datetime | None) -> datetime:
    """Return `deadline`, or the default one. Raise CommandRefused if it is not valid."""
    now = timezone.now()
    wanted = deadline or now + timedelta(seconds=settings.COMMAND_DEADLINE_SECONDS)
    if not now < wanted <= now + MAX_DEADLINE:
        raise CommandRefused("The deadline must be in the future, and within 30 days.")
    return wanted


def allowed_time(command: Any) -> timedelta:
    """Return the time from issue to deadline of a command or bulk command."""
    given: timedelta = command.deadline - command.created_at
    return min(max(given, timedelta(seconds=1)), MAX_DEADLINE)


def refuse_if_suspended(tenant: Tenant) -> None:
    """Raise CommandConflict if the tenant is suspended."""
    if tenant.suspended_at is not None:
        raise CommandConflict(
            "The tenant is suspended; its devices get no commands until it is resumed."
        )


def refuse_unfit(parameters: dict[str, Any]) -> None:
    """Raise CommandRefused if agents could not read the parameters, or they are too large."""
    try:
        json_values.check(parameters)
    except UnfitJson as error:
        raise CommandRefused(f"The parameters cannot be sent. {error}") from error


def wake_delivery() -> None:
    """Wake the subscribers once the caller's transaction is committed."""
    notify(COMMANDS_CHANNEL)


def wake_delivery_to(devices: Iterable[UUID]) -> None:
    """Wake the subscribers, as `wake_delivery` does, if commands wait for any of these devices."""
    if Command.objects.filter(device__in=set(devices), state=CommandState.QUEUED).exists():
        wake_delivery()


def _issue(action: Action, row: Command, by: User, **detail: str) -> None:
    if row.device.archived_at is not None:
        raise CommandConflict("The device is archived; it gets no commands until it is unarchived.")
    if row.device.revoked_at is not None:
        raise CommandConflict("The device is revoked; it gets no commands until it is reinstated.")
    refuse_if_suspended(row.device.tenant)
    refuse_unfit(row.parameters)
    row.save(force_insert=True)
    _record(action, row, by, **detail)
    wake_delivery()
    transaction.on_commit(lambda: frames.push_commands([row]))


def _issued_before(claimed: IdempotentRequest | None) -> Command | None:
    return Command.objects.get(uuid=claimed.outcome) if claimed and claimed.outcome else None


def _record(action: Action, command: Command, by: User | None, **detail: Any) -> None:
    """Record the action without the parameters, which may contain a secret."""
    device = command.device
    record_action(
        action,
        tenant=device.tenant_id,
        by=by,
        device=device.pk,
        target=f"device {device.name}",
        detail={"command": command.command, "command_id": str(command.uuid), **detail},
    )
