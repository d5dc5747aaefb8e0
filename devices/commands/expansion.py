"""The commands of a bulk command, a row for each device: made in batches, so that thousands take no
long lock. Where the process that makes them dies in between, a subscriber carries on."""

from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone

from devices.commands.issue import wake_delivery
from devices.commands.rules.states import COMMAND_STATES
from devices.live import frames
from devices.models import BulkCommand, Command
from tenants import origin
from tenants.audit import writer as audit
from tenants.audit.writer import Event
from tenants.models import Action, ActorKind

BATCH = 500

GONE = "revoked or deleted meanwhile"


def fill(bulk: BulkCommand) -> None:
    """Gives every device that waits for it its command, a batch and a transaction at a time."""
    while _fill_some(bulk.pk):
        pass
    bulk.refresh_from_db()


def fill_what_was_left() -> None:
    """Carries on where the process that issued a bulk command has died."""
    for bulk in BulkCommand.objects.filter(filled_at=None).order_by("pk")[:10]:
        fill(bulk)


@transaction.atomic
def _fill_some(number: int) -> bool:
    """False when nothing is left to do."""
    bulk = (
        BulkCommand.objects.select_for_update(of=("self",))
        .select_related("created_by")
        .get(pk=number)
    )
    some, rest = bulk.waiting[:BATCH], bulk.waiting[BATCH:]
    if some:
        with connection.cursor() as cursor:
            cursor.execute(
                _INSERT_COMMANDS,
                {
                    "bulk": bulk.pk,
                    "repeats": bulk.repeats_id,
                    "devices": some,
                    "state": COMMAND_STATES.initial,
                    "now": timezone.now(),
                },
            )
            made = cursor.fetchall()
        _audit_each(bulk, made)
        if gone := len(some) - len(made):
            bulk.left_out[GONE] = bulk.left_out.get(GONE, 0) + gone
        bulk.total += len(made)
        wake_delivery()
        uuids = [uuid for uuid, *_ in made]
        transaction.on_commit(lambda: push(uuids))
    bulk.waiting = rest
    if not rest and bulk.filled_at is None:
        bulk.filled_at = timezone.now()
    bulk.save(update_fields=["waiting", "total", "left_out", "filled_at"])
    return bool(rest)


def push(uuids: list[UUID]) -> None:
    """To the pages of those devices that somebody looks at."""
    if shown := frames.watched():
        frames.push_commands(list(Command.objects.filter(uuid__in=uuids, device__in=shown)))


def _audit_each(bulk: BulkCommand, made: list[tuple[UUID, UUID, str]]) -> None:
    """So that what a device was told is found under the device."""
    person = bulk.created_by
    actor = audit.Actor(
        ActorKind.PERSON, person.get_username() if person else "", str(person.pk) if person else ""
    )
    now = origin.current()
    audit.record_many(
        Event(
            Action.COMMAND_ISSUED,
            bulk.tenant_id,
            actor,
            device=device,
            target=f"device {name}",
            address=now.address,
            via=now.via,
            detail={
                "command": bulk.command,
                "command_id": str(command),
                "bulk_id": str(bulk.uuid),
            },
        )
        for command, device, name in made
    )


_INSERT_COMMANDS = """
    WITH made AS (
    INSERT INTO devices_command (
        uuid, device_id, command, parameters, state, created_by_id, by_platform, bulk_id,
        repeats_id, created_at, deadline, sends, error)
    SELECT gen_random_uuid(), device.uuid, bulk.command, bulk.parameters, %(state)s,
        bulk.created_by_id, false, bulk.id, before.id, %(now)s, bulk.deadline, 0, ''
    FROM unnest(%(devices)s::uuid[]) AS wanted (uuid)
    JOIN devices_bulkcommand AS bulk ON bulk.id = %(bulk)s
    JOIN devices_device AS device
        ON device.uuid = wanted.uuid AND device.tenant_id = bulk.tenant_id
        AND device.revoked_at IS NULL
    LEFT JOIN devices_command AS before
        ON before.bulk_id = %(repeats)s AND before.device_id = device.uuid
    ORDER BY device.uuid
    ON CONFLICT DO NOTHING
    RETURNING uuid, device_id
    )
    SELECT made.uuid, made.device_id, device.name
    FROM made JOIN devices_device AS device ON device.uuid = made.device_id
"""
