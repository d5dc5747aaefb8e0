"""Issue device tokens to many devices at once, follow how they come over, and undo it.

Only tokens are issued and no credentials for the broker: a device token opens nothing there by
itself. An agent uses it to register the public half of a key pair of its own (`POST
/api/nats/agent/{uuid}/upgrade`), so that neither a private key nor a password travels in a file.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Count, Q
from django.utils import timezone

from devices.errors import UpgradeRefused
from devices.models import Device, Onboarding
from devices.models.onboarding import OnboardingQuerySet, logged_in
from natsbridge.postgres.statements import execute_many
from tenants.audit.writer import actor_name, audit_event, record_action, record_events
from tenants.credentials.issue import credential_lock, locked_rows, refuse_suspended
from tenants.credentials.revocations import revoke_credentials_of
from tenants.errors import MigrationRefused
from tenants.models import Action, Credential, Group, Tenant, User, hash_token
from tenants.rules import secrets

UNDONE = "its upgrade was undone"
AGAIN = "it was upgraded again"

SET_TOKENS = """
    UPDATE devices_device SET token_digest = issued.digest
    FROM unnest(%s::uuid[], %s::text[]) AS issued (device, digest) WHERE uuid = issued.device
"""

COUNTS = {
    "registered": Count("pk"),
    "issued": Count("pk", filter=Q(issued_at__isnull=False)),
    "seen": Count("pk", filter=logged_in()),
}


@dataclass(frozen=True)
class IssuedToken:
    """A device's new token, which is stored nowhere."""

    device: UUID
    name: str
    token: str = field(repr=False)


@dataclass(frozen=True)
class Progress:
    """How many devices were registered elsewhere, how many of them were issued a token or a
    credential, and how many have logged in to the broker."""

    registered: int
    issued: int
    seen: int

    @property
    def remaining(self) -> int:
        return self.registered - self.seen


@dataclass(frozen=True)
class GroupProgress:
    uuid: UUID
    name: str
    progress: Progress


@dataclass(frozen=True)
class Undone:
    """How many upgrades were undone, and how many not, since the agent has logged in."""

    undone: int
    already_seen: int


@transaction.atomic
def issue_tokens(
    tenant: Tenant, group: Group | None, *, by: User | None, again: bool = False
) -> list[IssuedToken]:
    """Issue a token to each device of the tenant, or of its group, that was registered elsewhere
    and has not logged in yet; without `again` only to those that hold none.

    With `again`, what was issued before becomes invalid. Revoked devices get none. Raise
    CredentialRefused while the tenant is suspended.
    """
    refuse_suspended(tenant.pk)
    wanted = _of(tenant, group).unseen().filter(device__revoked_at=None)
    if not again:
        wanted = wanted.filter(issued_at=None)
    rows = _locked(wanted)
    if again:
        _revoke(tenant, rows, by=by, reason=AGAIN)
    issued = [IssuedToken(row.device_id, row.device.name, secrets.new_token("wgd")) for row in rows]
    execute_many(SET_TOKENS, ((each.device, hash_token(each.token)) for each in issued))
    _mark(rows, issued=True)
    _record(Action.DEVICE_UPGRADED, tenant, rows, by)
    return issued


@transaction.atomic
def undo_upgrades(tenant: Tenant, group: Group | None, *, by: User | None) -> Undone:
    """Void what was issued to the devices whose agents have not logged in since.

    Their connection type is still what it was, since only the first login changes it.
    """
    issued = _of(tenant, group).issued()
    rows = locked_unseen(tenant, issued)
    _void(tenant, rows, by=by)
    return Undone(len(rows), issued.count())


@transaction.atomic
def undo_upgrade(device: Device, *, by: User | None) -> None:
    """Void what was issued to one device. Raise UpgradeRefused if its agent has logged in, or if
    nothing was issued to it."""
    issued = Onboarding.objects.filter(device=device).issued()
    rows = locked_unseen(device.tenant, issued)
    if not rows:
        reason = "it has logged in to the broker" if issued.exists() else "nothing was issued to it"
        raise UpgradeRefused(f"The upgrade of {device.name} cannot be undone: {reason}.")
    _void(device.tenant, rows, by=by)


def locked_unseen(tenant: Tenant, onboardings: OnboardingQuerySet) -> list[Onboarding]:
    """Lock the rows, and return those whose agents have not logged in. No login of theirs is
    recorded until the caller's transaction ends."""
    rows = _locked(onboardings)
    with credential_lock(tenant.pk):
        devices = [row.device_id for row in rows]
        held = Credential.objects.filter(tenant=tenant, device_uuid__in=devices)
        list(locked_rows(held).values_list("pk"))
    # A query of its own, so that it sees the logins for which the locks have waited.
    unseen = set(onboardings.unseen().values_list("pk", flat=True))
    return [row for row in rows if row.pk in unseen]


def progress(tenant: Tenant) -> Progress:
    return Progress(**_of(tenant, None).aggregate(**COUNTS))


def progress_of(tenants: Iterable[Tenant]) -> dict[UUID, Progress]:
    """Return the progress of each tenant that has devices from elsewhere."""
    tenants = list(tenants)
    if not tenants:
        return {}
    of_tenants = Onboarding.objects.filter(device__tenant__in=tenants, device__archived_at=None)
    rows: Any = of_tenants.order_by().values("device__tenant").annotate(**COUNTS)
    found = rows.values_list("device__tenant", *COUNTS)
    return {tenant: Progress(*counts) for tenant, *counts in found}


def token_lines(issued: Iterable[IssuedToken]) -> bytes:
    """Return the tokens as JSON lines, for whatever brings them to the computers."""
    lines = (
        {"device_uuid": str(each.device), "name": each.name, "device_token": each.token}
        for each in issued
    )
    return b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in lines)


def progress_by_group(tenant: Tenant) -> list[GroupProgress]:
    """Return the progress of each group that has devices from elsewhere, by name."""
    of_group = ("device__group__organisation__name", "device__group__name", "device__group")
    rows: Any = _of(tenant, None).order_by(*of_group).values(*of_group).annotate(**COUNTS)
    return [
        GroupProgress(uuid, f"{organisation} / {name}", Progress(*counts))
        for organisation, name, uuid, *counts in rows.values_list(*of_group, *COUNTS)
    ]


@transaction.atomic
def mark_migrated(tenant: Tenant, *, by: User | None, despite_remaining: bool = False) -> None:
    """Mark that the tenant's fleet has come over; further imports are refused.

    Raise MigrationRefused if some devices have not logged in yet, unless they may stay behind.
    """
    row = Tenant.objects.select_for_update().get(pk=tenant.pk)
    if row.migrated_at:
        return
    remaining = progress(row).remaining
    if remaining and not despite_remaining:
        raise MigrationRefused(
            f"{remaining:,} devices of {row.name} have not logged in to the broker yet. Say that "
            "they may stay behind, or delete them first."
        )
    row.migrated_at, row.migrated_by_name = timezone.now(), actor_name(by)
    row.save(update_fields=["migrated_at", "migrated_by_name"])
    detail = {"migrated": True, "remaining": remaining}
    record_action(Action.TENANT_MIGRATED, tenant=row.pk, by=by, target=row.name, detail=detail)


@transaction.atomic
def unmark_migrated(tenant: Tenant, *, by: User | None) -> None:
    row = Tenant.objects.select_for_update().get(pk=tenant.pk)
    if not row.migrated_at:
        return
    row.migrated_at, row.migrated_by_name = None, ""
    row.save(update_fields=["migrated_at", "migrated_by_name"])
    detail = {"migrated": False}
    record_action(Action.TENANT_MIGRATED, tenant=row.pk, by=by, target=row.name, detail=detail)


def _of(tenant: Tenant, group: Group | None) -> OnboardingQuerySet:
    """Return the onboardings of the devices in the fleet, which archived ones are not."""
    found = Onboarding.objects.filter(device__tenant=tenant, device__archived_at=None)
    return found.filter(device__group=group) if group else found


def _locked(onboardings: OnboardingQuerySet) -> list[Onboarding]:
    """Lock the rows with their devices: each device first, as its own upgrade does."""
    related = onboardings.select_related("device").order_by("pk")
    return list(related.select_for_update(of=("device", "self")))


def _void(tenant: Tenant, rows: Sequence[Onboarding], *, by: User | None) -> None:
    devices = [row.device_id for row in rows]
    _revoke(tenant, rows, by=by, reason=UNDONE)
    Device.objects.filter(pk__in=devices).update(token_digest=None)
    _mark(rows, issued=False)
    _record(Action.DEVICE_UPGRADE_UNDONE, tenant, rows, by)


def _revoke(tenant: Tenant, rows: Sequence[Onboarding], *, by: User | None, reason: str) -> None:
    """End the credentials that agents have fetched with an earlier token, and forget their keys."""
    keys = {row.device_id: row.device.nkey_public for row in rows}
    revoke_credentials_of(tenant.pk, keys, by=by, reason=reason)
    Device.objects.filter(pk__in=keys).exclude(nkey_public=None).update(nkey_public=None)


def _mark(rows: Sequence[Onboarding], *, issued: bool) -> None:
    marked = Onboarding.objects.filter(pk__in=[row.pk for row in rows])
    marked.update(issued_at=timezone.now() if issued else None)


def _record(action: Action, tenant: Tenant, rows: Sequence[Onboarding], by: User | None) -> None:
    record_events(
        audit_event(
            action,
            tenant=tenant.pk,
            by=by,
            device=row.device_id,
            target=f"device {row.device.name}",
            detail={"connection_type": row.came_from},
        )
        for row in rows
    )
