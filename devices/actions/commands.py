"""What people do with commands. Delivery is the subscriber's, see `delivery`."""

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from devices import live
from devices.errors import CommandRefused
from devices.models import Command, CommandState, Device
from tenants.models import User

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
    """
    now = timezone.now()
    latest = deadline or now + timedelta(seconds=settings.COMMAND_DEADLINE_SECONDS)
    if not now < latest <= now + MAX_DEADLINE:
        raise CommandRefused("The deadline must lie ahead, and within 30 days.")
    row = Command.objects.create(
        device=device, command=command, parameters=parameters, created_by=by, deadline=latest
    )
    wake_delivery()
    transaction.on_commit(lambda: live.push_commands([row]))
    return row


@transaction.atomic
def cancel(command: Command, *, by: User) -> None:
    """Only what waits can be cancelled: what was sent cannot be called back."""
    row = Command.objects.select_for_update().get(pk=command.pk)
    if row.state != CommandState.QUEUED:
        raise CommandRefused(f"The command is {row.get_state_display().lower()} already.")
    row.state = CommandState.CANCELLED
    row.finished_at = timezone.now()
    row.error = f"cancelled by {by.get_username()}"
    row.save(update_fields=["state", "finished_at", "error"])
    transaction.on_commit(lambda: live.push_commands([row]))


def wake_delivery() -> None:
    """Wakes the subscribers once the caller's transaction is committed."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, '')", [COMMANDS_CHANNEL])
