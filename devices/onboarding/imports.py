"""Import devices that were registered elsewhere, under the UUIDs they have; undo an import."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from devices.enrolment.actions import refuse_too_many
from devices.enrolment.credentials import delete_devices
from devices.errors import DeviceImportRefused, RowError
from devices.models import Connectivity, Device, DeviceImport, Onboarding
from devices.onboarding.rules import MOST_ERRORS, Row, Rows
from devices.onboarding.upgrades import locked_unseen
from natsbridge.postgres import locks
from natsbridge.postgres.locks import Lock
from tenants.audit.writer import actor_name, audit_event, record_events
from tenants.models import Action, Group, Tenant, User
from tenants.names import validate_name

# Rows of one statement.
BATCH = 1000
# So many errors are part of a message.
NAMED = 3
ELSEWHERE = "This UUID cannot be imported: it is a device's already, outside of this tenant."
UNDONE = "its import was undone"


@dataclass(frozen=True)
class ImportReport:
    """What an import found, and did unless it was a dry run.

    `errors` are the first of `error_count`. Devices that are `existing` in the tenant stay as they
    are, so a file may be imported again.
    """

    errors: list[RowError]
    error_count: int
    created: list[UUID]
    existing: list[UUID]
    record: DeviceImport | None = None

    def __str__(self) -> str:
        """Say what is wrong, or what was found."""
        if not self.errors:
            return f"{len(self.created):,} new, {len(self.existing):,} already there"
        named = "; ".join(str(error) for error in self.errors[:NAMED])
        rest = self.error_count - min(NAMED, len(self.errors))
        more = f"; and {rest:,} more" if rest else ""
        return f"Nothing was imported. {named}{more}"


def examine(tenant: Tenant, read: Rows, *, group: Group | None) -> ImportReport:
    """Return what an import of these rows would do, and write nothing. Raise TooManyDevices."""
    report, _ = _examine(tenant, read, group)
    return report


@transaction.atomic
def import_devices(
    tenant: Tenant, read: Rows, *, group: Group | None, by: User | None
) -> ImportReport:
    """Import the rows, all of them or none. `group` is for rows that name none.

    Raise DeviceImportRefused with every error, TooManyDevices.
    """
    # Two imports may name the same UUIDs, in different tenants even.
    locks.lock(Lock.DEVICE_IMPORT)
    report, groups = _examine(tenant, read, group)
    if report.errors:
        raise DeviceImportRefused(str(report), report.errors)
    if not report.created:
        return report
    record = DeviceImport.objects.create(
        tenant=tenant,
        created_by=by,
        created_by_name=actor_name(by),
        device_count=len(report.created),
    )
    created = set(report.created)
    rows = [row for row in read.rows if row.uuid in created]
    Device.objects.bulk_create(
        (_device(row, groups[row.line], tenant) for row in rows), batch_size=BATCH
    )
    Connectivity.objects.bulk_create(
        (Connectivity(device_id=row.uuid, connection_type=row.connection_type) for row in rows),
        batch_size=BATCH,
    )
    Onboarding.objects.bulk_create(
        (
            Onboarding(device_id=row.uuid, came_from=row.connection_type, imported=record)
            for row in rows
        ),
        batch_size=BATCH,
    )
    record_events(
        audit_event(
            Action.DEVICE_REGISTERED,
            tenant=tenant.pk,
            by=by,
            device=row.uuid,
            target=f"device {row.name}",
            detail={"connection_type": row.connection_type, "import": str(record.pk)},
        )
        for row in rows
    )
    return ImportReport([], 0, report.created, report.existing, record)


@transaction.atomic
def undo_import(record: DeviceImport, *, by: User | None) -> tuple[int, int]:
    """Delete the devices of an import whose agents have not logged in to the broker.

    Return how many were deleted, and how many had logged in and stay.
    """
    locked = DeviceImport.objects.select_for_update().get(pk=record.pk)
    imported = Onboarding.objects.filter(imported=locked)
    unseen = [row.device for row in locked_unseen(locked.tenant, imported)]
    delete_devices(unseen, by=by, reason=UNDONE)
    locked.undone_at = timezone.now()
    locked.save(update_fields=["undone_at"])
    return len(unseen), imported.count()


def _examine(
    tenant: Tenant, read: Rows, group: Group | None
) -> tuple[ImportReport, dict[int, Group]]:
    """Return the report, and the group of each row by its line."""
    if tenant.migrated_at:
        raise DeviceImportRefused(
            f"{tenant.name} is marked as migrated; take that back before you import devices."
        )
    errors = [*read.errors, *_wrong_names(read.rows)]
    groups, wrong_groups = _groups(tenant, read.rows, group)
    known = dict(
        Device.objects.filter(pk__in=[row.uuid for row in read.rows]).values_list("pk", "tenant")
    )
    elsewhere = [row for row in read.rows if known.get(row.uuid, tenant.pk) != tenant.pk]
    errors += wrong_groups
    errors += [RowError(row.line, "uuid", ELSEWHERE) for row in elsewhere]
    errors.sort(key=lambda error: error.line)
    existing = [row.uuid for row in read.rows if known.get(row.uuid) == tenant.pk]
    created = [row.uuid for row in read.rows if row.uuid not in known]
    if not errors and created:
        refuse_too_many(tenant, adding=len(created))
    return ImportReport(errors[:MOST_ERRORS], len(errors), created, existing), groups


def _wrong_names(rows: Sequence[Row]) -> list[RowError]:
    found = []
    for row in rows:
        try:
            validate_name(row.name)
        except ValidationError as error:
            found.append(RowError(row.line, "name", error.messages[0]))
    return found


def _groups(
    tenant: Tenant, rows: Sequence[Row], default: Group | None
) -> tuple[dict[int, Group], list[RowError]]:
    """Find the group that each row names, by UUID or by name."""
    wanted = {row.group for row in rows}
    uuids = {text: uuid for text in wanted if (uuid := _uuid(text))}
    named = Group.objects.filter(Q(pk__in=uuids.values()) | Q(name__in=wanted), tenant=tenant)
    by_uuid: dict[UUID, Group] = {}
    by_name: defaultdict[str, list[Group]] = defaultdict(list)
    for group in named:
        by_uuid[group.pk] = group
        by_name[group.name].append(group)
    found, errors = {}, []
    for row in rows:
        of_uuid = by_uuid.get(uuids[row.group]) if row.group in uuids else None
        candidates = [of_uuid] if of_uuid else by_name.get(row.group, [])
        if not row.group and default is not None:
            candidates = [default]
        if len(candidates) == 1:
            found[row.line] = candidates[0]
        else:
            errors.append(RowError(row.line, "group", _group_problem(row.group, len(candidates))))
    return found, errors


def _group_problem(text: str, count: int) -> str:
    if not text:
        return "It is missing; name a group in each row, or one for all."
    if count:
        return f'{count} groups are called "{text}"; give the UUID of one.'
    return f'There is no group "{text}" in this tenant.'


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _device(row: Row, group: Group, tenant: Tenant) -> Device:
    return Device(
        uuid=row.uuid,
        tenant=tenant,
        group=group,
        name=row.name,
        hardware_info=row.hardware_info,
    )
