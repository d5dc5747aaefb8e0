"""Expand a bulk command into one command per device, in batches, so that thousands take no long
lock. If the process dies in between, a subscriber carries on."""

from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone

from devices.commands.issue import wake_delivery
from devices.live import frames
from devices.models import BulkCommand, CommandState
from tenants.audit.writer import Actor, AuditEvent, record_events
from tenants.models import Action, ActorKind
from tenants.origin import current_origin

BATCH = 500

GONE = "revoked or deleted in the meantime"


def expand(bulk: BulkCommand) -> None:
    """Create the command of each waiting device, one batch a transaction."""
    while _expand_some(bulk.pk):
        pass
    bulk.refresh_from_db()


def expand_unfinished() -> None:
    """Carry on with bulk commands whose issuing process has died."""
    for bulk in BulkCommand.objects.filter(expanded_at=None).order_by("pk")[:10]:
        expand(bulk)


@transaction.atomic
def _expand_some(number: int) -> bool:
    """Return whether devices are left."""
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
                    "retry_of": bulk.retry_of_id,
                    "devices": some,
                    "now": timezone.now(),
                },
            )
            made = cursor.fetchall()
        _audit_each(bulk, made)
        if gone := len(some) - len(made):
            bulk.left_out[GONE] = bulk.left_out.get(GONE, 0) + gone
        bulk.total += len(made)
        wake_delivery()
        news = [(device, command, CommandState.QUEUED) for command, device, _ in made]
        transaction.on_commit(lambda: frames.push_states(news))
    bulk.waiting = rest
    if not rest and bulk.expanded_at is None:
        bulk.expanded_at = timezone.now()
    bulk.save(update_fields=["waiting", "total", "left_out", "expanded_at"])
    return bool(rest)


def _audit_each(bulk: BulkCommand, made: list[tuple[UUID, UUID, str]]) -> None:
    """Record each command in the audit log of its device."""
    person = bulk.created_by
    actor = Actor(
        ActorKind.PERSON, person.get_username() if person else "", str(person.pk) if person else ""
    )
    now = current_origin()
    record_events(
        AuditEvent(
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
        uuid, device_id, command, parameters, created_by_id, by_platform, bulk_id,
        retry_of_id, request_id, created_at, deadline, sends, error)
    SELECT gen_random_uuid(), device.uuid, bulk.command, bulk.parameters,
        bulk.created_by_id, false, bulk.id, before.id, bulk.request_id, %(now)s, bulk.deadline,
        0, ''
    FROM unnest(%(devices)s::uuid[]) AS wanted (uuid)
    JOIN devices_bulkcommand AS bulk ON bulk.id = %(bulk)s
    JOIN devices_device AS device
        ON device.uuid = wanted.uuid AND device.tenant_id = bulk.tenant_id
        AND device.revoked_at IS NULL
    LEFT JOIN devices_command AS before
        ON before.bulk_id = %(retry_of)s AND before.device_id = device.uuid
    ORDER BY device.uuid
    ON CONFLICT DO NOTHING
    RETURNING uuid, device_id
    )
    SELECT made.uuid, made.device_id, device.name
    FROM made JOIN devices_device AS device ON device.uuid = made.device_id
"""
