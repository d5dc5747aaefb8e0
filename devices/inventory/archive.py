"""Archive devices that are out of use, and bring them back.

An archived device is out of the fleet, and does not count towards its tenant's limit. It is also
revoked, so it cannot connect, gets no commands and cannot enrol again. Its history stays.
"""

from django.db import transaction
from django.utils import timezone

from devices.enrolment.actions import refuse_too_many
from devices.enrolment.credentials import REVOCATION, revoke_device_credentials
from devices.inventory.details import audit_device, push_after_commit
from devices.live import frames
from devices.models import Device
from tenants.audit.writer import actor_name
from tenants.models import Action, User

ARCHIVING = ["archived_at", "archived_by_name", "archived_reason"]


@transaction.atomic
def archive_device(device: Device, *, by: User | None, reason: str = "") -> None:
    """Take a device out of the fleet, and revoke it. Leave it as it is if it is archived."""
    row = Device.objects.select_for_update(of=("self",)).get(pk=device.pk)
    if row.archived_at:
        return
    row.archived_at, row.archived_by_name = timezone.now(), actor_name(by)
    row.archived_reason = reason[:300]
    if not row.revoked_at:
        row.revoked_at, row.revoked_by = row.archived_at, by
        row.revoked_by_name, row.revoked_reason = row.archived_by_name, "archived"
        revoke_device_credentials(
            row.tenant_id, row.pk, row.nkey_public, by=by, reason="the device was archived"
        )
    row.save(update_fields=[*ARCHIVING, *REVOCATION])
    audit_device(Action.DEVICE_ARCHIVED, row, by, **({"reason": reason[:300]} if reason else {}))
    _push(row)


@transaction.atomic
def unarchive_device(device: Device, *, by: User | None) -> None:
    """Bring an archived device back. Its token is valid again, with which its agent gets a new
    credential, unless it was revoked before it was archived. Raise TooManyDevices."""
    row = Device.objects.select_for_update(of=("self",)).select_related("tenant").get(pk=device.pk)
    if not row.archived_at:
        return
    refuse_too_many(row.tenant)
    if row.revoked_at == row.archived_at:
        row.revoked_at, row.revoked_by, row.revoked_by_name, row.revoked_reason = None, None, "", ""
    row.archived_at, row.archived_by_name, row.archived_reason = None, "", ""
    row.save(update_fields=[*ARCHIVING, *REVOCATION])
    audit_device(Action.DEVICE_UNARCHIVED, row, by, still_revoked=row.revoked_at is not None)
    _push(row)


def _push(device: Device) -> None:
    push_after_commit(device)
    transaction.on_commit(lambda: frames.push_connectivity([device.pk]))
