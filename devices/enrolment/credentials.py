"""Revoke, reinstate, rotate and delete: what happens to a device's credentials and its token."""

from collections.abc import Collection, Iterable
from datetime import timedelta
from uuid import UUID

import structlog
from django.db import transaction
from django.db.models import Exists, OuterRef, Subquery
from django.utils import timezone

from devices.commands.issue import wake_delivery
from devices.errors import DeviceArchived
from devices.live import frames
from devices.models import Command, Connectivity, Device
from devices.telemetry import ring_buffers
from natsbridge.errors import DependencyAway
from tenants.audit.writer import AuditEvent, actor_name, audit_event, record_events
from tenants.credentials import rotate as rotation
from tenants.credentials.issue import Issued
from tenants.credentials.revocations import revoke_credentials_of, revoke_device_credentials
from tenants.models import Action, Credential, Tenant, User

log = structlog.get_logger(__name__)

RENEW = "renew_credentials"
REVOCATION = ["revoked_at", "revoked_by", "revoked_by_name", "revoked_reason"]
# Each renewal is a login, and a thousand devices must not log in within one second.
TOLD_AT_ONCE = 25
PACE_SECONDS = 1.0


@transaction.atomic
def revoke_device(device: Device, *, by: User | None, reason: str) -> None:
    """Revoke a device's credentials and token; its connection ends within a second.

    Leave a device as it is if it is revoked already.
    """
    row = Device.objects.select_for_update(of=("self",)).get(pk=device.pk)
    if row.revoked_at:
        return
    row.revoked_at, row.revoked_by = timezone.now(), by
    row.revoked_by_name, row.revoked_reason = actor_name(by), reason[:300]
    row.save(update_fields=REVOCATION)
    _revoke_credentials(row, by=by, reason=reason)
    _record(Action.DEVICE_REVOKED, row, by, reason=reason[:300])
    transaction.on_commit(lambda: frames.push_presence([row.pk]))


@transaction.atomic
def reinstate_device(device: Device, *, by: User | None) -> None:
    """Make a revoked device's token valid again; its agent gets a new credential with it. Raise
    DeviceArchived."""
    row = Device.objects.select_for_update(of=("self",)).get(pk=device.pk)
    if not row.revoked_at:
        return
    if row.archived_at:
        raise DeviceArchived("This device is archived; unarchive it to reinstate it.")
    row.revoked_at, row.revoked_by, row.revoked_by_name, row.revoked_reason = None, None, "", ""
    row.save(update_fields=REVOCATION)
    _record(Action.DEVICE_REINSTATED, row, by)
    transaction.on_commit(lambda: frames.push_presence([row.pk]))


def rotate_device(device: Device, *, by: User | None, overlap: timedelta) -> None:
    """Tell the device's agent to fetch a new credential. Raise RotationRefused with the reason."""
    rotation.rotate_device(
        device.tenant_id, device.pk, by=by, overlap=overlap, nkey_public=device.nkey_public
    )


def rotate_all(
    tenant: Tenant,
    *,
    by: User | None,
    overlap: timedelta,
    kind: Credential.Kind,
    replaces: Credential | None,
) -> Issued:
    """Rotate the tenant's own credential of this kind and those of all its devices.

    Agents are told in small groups. Those counted in `not_told` keep their credential until they
    have used a newer one. Raise RotationRefused with the reason.
    """
    return rotation.rotate_all(tenant, by=by, overlap=overlap, kind=kind, replaces=replaces)


def delete_devices(devices: Iterable[Device], *, by: User | None, reason: str = "") -> None:
    """Delete devices with everything stored about them, and revoke their credentials."""
    gone = [device.pk for device in devices]
    with transaction.atomic():
        locked = Device.objects.select_for_update(of=("self",)).filter(pk__in=gone)
        rows = list(locked.order_by("pk"))
        for tenant in sorted({row.tenant_id for row in rows}):
            keys = {row.pk: row.nkey_public for row in rows if row.tenant_id == tenant}
            revoke_credentials_of(tenant, keys, by=by, reason=reason or "the device was deleted")
        detail = {"reason": reason} if reason else {}
        record_events(_event(Action.DEVICE_DELETED, row, by, **detail) for row in rows)
        Device.objects.filter(pk__in=gone).delete()
    try:
        ring_buffers.forget(gone)
    except DependencyAway as error:
        # They expire after METRICS_TTL_SECONDS.
        log.warning("live metrics of deleted devices stay a while", error=str(error))


@transaction.atomic
def tell_some_to_renew() -> int:
    """Send RENEW to some agents whose credentials are being rotated, and return to how many.

    One subscriber at a time does this, and each agent is told once in a rotation. An agent that is
    offline gets the command if it is back in time; otherwise its old credential is void by then,
    and it renews by itself.
    """
    live_ones = Credential.objects.live().filter(device_uuid=OuterRef("pk")).order_by("-ends_at")
    rotating = live_ones.exclude(ends_at=None)
    told = Command.objects.filter(
        device=OuterRef("pk"), command=RENEW, by_platform=True, deadline=OuterRef("ends_at")
    )
    due = (
        Device.objects.filter(
            Exists(rotating),
            ~Exists(live_ones.filter(ends_at=None)),
            revoked_at=None,
            connectivity__capabilities__commands__contains=[{"name": RENEW}],
        )
        .annotate(ends_at=Subquery(rotating.values("ends_at")[:1]))
        .filter(~Exists(told))
        .order_by("pk")[:TOLD_AT_ONCE]
    )
    commands = [
        Command(device_id=device, command=RENEW, by_platform=True, deadline=ends_at)
        for device, ends_at in due.values_list("pk", "ends_at")
    ]
    Command.objects.bulk_create(commands)
    if commands:
        wake_delivery()
        transaction.on_commit(lambda: frames.push_commands(commands))
    return len(commands)


def agents_that_renew(devices: Collection[UUID]) -> set[UUID]:
    """Return which of the devices have an agent that knows the command RENEW."""
    able = Connectivity.objects.filter(
        device__in=devices, capabilities__commands__contains=[{"name": RENEW}]
    )
    return set(able.values_list("device_id", flat=True))


def _revoke_credentials(device: Device, *, by: User | None, reason: str) -> None:
    revoke_device_credentials(device.tenant_id, device.pk, device.nkey_public, by=by, reason=reason)


def _record(action: Action, device: Device, by: User | None, **detail: str) -> None:
    record_events([_event(action, device, by, **detail)])


def _event(action: Action, device: Device, by: User | None, **detail: str) -> AuditEvent:
    return audit_event(
        action,
        tenant=device.tenant_id,
        by=by,
        device=device.pk,
        target=f"device {device.name}",
        detail=detail,
    )
