"""What people do with commands. Delivery is the subscriber's, see `delivery`."""

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from devices import json_values, live
from devices.errors import CommandConflict, CommandRefused, UnfitJson
from devices.models import Command, CommandState, Device
from tenants.actions import audit
from tenants.models import Action, Tenant, User

# The channel on which a subscriber hears that commands wait.
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
    """A command that waits for its device until `deadline` (default COMMAND_DEADLINE_SECONDS).

    The caller has checked that `by` may command the device; it is checked again when it is sent.
    Raises CommandRefused.
    """
    return _issue(
        Action.COMMAND_ISSUED,
        Command(
            device=device,
            command=command,
            parameters=parameters,
            created_by=by,
            deadline=latest(deadline),
        ),
        by,
    )


@transaction.atomic
def retry(command: Command, *, by: User) -> Command:
    """A new command of the same content, with as much time as the first had. The caller has
    checked that `by` may command the device. Raises CommandRefused; CommandConflict while the first
    is open."""
    if command.is_open:
        state = command.get_state_display().lower()
        raise CommandConflict(f"The command is {state}; only one that has ended can be repeated.")
    again = Command(
        device=command.device,
        command=command.command,
        parameters=command.parameters,
        created_by=by,
        deadline=timezone.now() + allowed_time(command),
        repeats=command,
    )
    return _issue(Action.COMMAND_RETRIED, again, by, repeats=str(command.uuid))


@transaction.atomic
def cancel(command: Command, *, by: User) -> None:
    """Only what waits can be cancelled: what was sent cannot be called back."""
    rows = Command.objects.select_for_update(of=("self",)).select_related("device")
    row = rows.that_may_become(CommandState.CANCELLED).filter(pk=command.pk).first()
    if row is None:
        command.refresh_from_db(fields=["state"])
        raise CommandConflict(f"The command is {command.get_state_display().lower()} already.")
    row.become(CommandState.CANCELLED)
    row.finished_at = timezone.now()
    row.error = cancelled_by(by)
    row.save(update_fields=["state", "finished_at", "error"])
    _record(Action.COMMAND_CANCELLED, row, by)
    transaction.on_commit(lambda: live.push_commands([row]))


def cancelled_by(person: User) -> str:
    return f"cancelled by {person.get_username()}"


def latest(deadline: datetime | None) -> datetime:
    """`deadline` or the usual one. Raises CommandRefused."""
    now = timezone.now()
    wanted = deadline or now + timedelta(seconds=settings.COMMAND_DEADLINE_SECONDS)
    if not now < wanted <= now + MAX_DEADLINE:
        raise CommandRefused("The deadline must lie ahead, and within 30 days.")
    return wanted


def allowed_time(command: Any) -> timedelta:
    """From issue to deadline, of a command or a bulk command."""
    given: timedelta = command.deadline - command.created_at
    return min(max(given, timedelta(seconds=1)), MAX_DEADLINE)


def refuse_if_suspended(tenant: Tenant) -> None:
    """Raises CommandConflict."""
    if tenant.suspended_at is not None:
        raise CommandConflict("The tenant is suspended: it takes no command until it is resumed.")


def refuse_unfit(parameters: dict[str, Any]) -> None:
    """Raises CommandRefused. The agent could not read them, or the broker not carry them."""
    try:
        json_values.check(parameters)
    except UnfitJson as error:
        raise CommandRefused(f"The parameters cannot be sent. {error}") from error


def wake_delivery() -> None:
    """Wakes the subscribers once the caller's transaction is committed."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, '')", [COMMANDS_CHANNEL])


def _issue(action: Action, row: Command, by: User, **detail: str) -> Command:
    if row.device.revoked_at is not None:
        raise CommandConflict("The device is revoked: it takes no command until it is reinstated.")
    refuse_if_suspended(row.device.tenant)
    refuse_unfit(row.parameters)
    row.save(force_insert=True)
    _record(action, row, by, **detail)
    wake_delivery()
    transaction.on_commit(lambda: live.push_commands([row]))
    return row


def _record(action: Action, command: Command, by: User | None, **detail: str) -> None:
    """Without the parameters, which may hold a secret; they stand in the command's own row."""
    device = command.device
    audit.record(
        action,
        tenant=device.tenant_id,
        by=by,
        device=device.pk,
        target=f"device {device.name}",
        detail={"command": command.command, "command_id": str(command.uuid), **detail},
    )
