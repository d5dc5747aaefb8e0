"""What opens the broker: issued, used, rotated, revoked, ended. Each step is audited."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from tenants.broker.accounts import announce_account
from tenants.credentials.issue import (
    Issued,
    alone,
    end,
    is_on_record,
    issue_device_jwt,
    issue_device_password,
    issue_tenant_credential,
    stand_in,
)
from tenants.credentials.rotate import (
    RENEWALS_CHANNEL,
    newest,
    not_told,
    retire_keys,
    rotate_all,
    rotate_device,
    rotate_keys,
    rotate_tenant,
)
from tenants.models import Action, Credential, Tenant, User

__all__ = [
    "RENEWALS_CHANNEL",
    "Issued",
    "Use",
    "end_due",
    "issue_device_jwt",
    "issue_device_password",
    "issue_tenant_credential",
    "newest",
    "not_told",
    "record_password_use",
    "record_use",
    "revoke",
    "revoke_device",
    "rotate_all",
    "rotate_device",
    "rotate_keys",
    "rotate_tenant",
]

# Devices whose overlap ends together lose their connections together: so many at a time.
ENDED_AT_ONCE = 50

SUPERSEDED = "a newer one is in use"
OVERDUE = "the overlap of its rotation is over"


@dataclass(frozen=True)
class Use:
    """A JWT that was seen at a login: its subject and its `iat`."""

    public_key: str
    issued_at: int
    at: datetime


@transaction.atomic
def revoke(credential: Credential, *, by: User | None, reason: str) -> None:
    """Void at once, with every older JWT of the same key. One that has ended stays as it is."""
    wanted = Q(pk=credential.pk)
    if credential.kind == Credential.Kind.JWT:
        wanted |= Q(public_key=credential.public_key, issued_at__lte=credential.issued_at)
    rows = list(_locked(Credential.objects.filter(wanted, tenant=credential.tenant_id)))
    if any(row.pk == credential.pk and row.ended_at is None for row in rows):
        open_ones = [row for row in rows if row.ended_at is None]
        end(open_ones, by=by, reason=reason, action=Action.CREDENTIAL_REVOKED)


def revoke_device(
    tenant: UUID, device: UUID, nkey_public: str | None, *, by: User | None, reason: str
) -> None:
    """Voids all that the device holds, also a JWT that no row tells of."""
    with alone(tenant, device):
        held = Credential.objects.filter(tenant=tenant, device_uuid=device, ended_at=None)
        rows = list(_locked(held))
        if nkey_public and not is_on_record(nkey_public):
            rows.append(stand_in(tenant, device, nkey_public))
        end(rows, by=by, reason=reason, action=Action.CREDENTIAL_REVOKED)


@transaction.atomic
def record_use(uses: Sequence[Use]) -> None:
    """JWTs were seen at logins. A JWT's first use ends those before it that are being rotated."""
    latest: dict[tuple[str, int], datetime] = {}
    for use in uses:
        known = (use.public_key, use.issued_at)
        latest[known] = max(use.at, latest.get(known, use.at))
    rows = Credential.objects.filter(
        kind=Credential.Kind.JWT, public_key__in={key for key, _ in latest}
    )
    seen = {}
    for row in rows:
        at = latest.get((row.public_key, int(row.issued_at.timestamp())))
        if at is not None:
            seen[row.pk] = at
    _note_uses(seen)


@transaction.atomic
def record_password_use(credentials: Iterable[Credential], *, at: datetime | None = None) -> None:
    """These opened the broker. A password's first use ends those before it."""
    used = _note_uses(dict.fromkeys([row.pk for row in credentials], at or timezone.now()))
    # Revoked while its login was under way: that connection is still to be ended.
    for tenant in sorted({row.tenant_id for row in used if row.ended_at}):
        announce_account(Tenant(pk=tenant))


def end_due() -> int:
    """Ends what is past its overlap, some devices at a time, and signing keys likewise; how many
    credentials those were. Several may do it at once."""
    with transaction.atomic():
        due = (
            Credential.objects.select_for_update(skip_locked=True)
            .filter(ended_at=None, ends_at__lte=timezone.now())
            .order_by("ends_at")[:ENDED_AT_ONCE]
        )
        rows = list(due)
        end(rows, by=None, reason=OVERDUE)
    retire_keys()
    return len(rows)


def _note_uses(seen: dict[int, datetime]) -> list[Credential]:
    """By primary key when each was used. Returns their rows."""
    fresh = Credential.objects.filter(pk__in=seen, first_used_at=None)
    owners = list(fresh.values_list("tenant", "device_uuid").order_by())
    of_devices = Q(
        tenant__in={tenant for tenant, device in owners if device},
        device_uuid__in={device for _, device in owners if device},
    )
    of_tenants = Q(tenant__in={tenant for tenant, device in owners if not device}, device_uuid=None)
    # With all that they may end at once, since two who take them piece by piece could wait for
    # each other.
    wanted = Q(pk__in=seen) | ((of_devices | of_tenants) & Q(ended_at=None))
    locked = list(_locked(Credential.objects.filter(wanted)))
    used = [row for row in locked if row.pk in seen]
    first = [row for row in used if row.first_used_at is None]
    for row in used:
        at = seen[row.pk]
        row.first_used_at = row.first_used_at or at
        row.last_used_at = max(at, row.last_used_at or at)
    Credential.objects.bulk_update(used, ["first_used_at", "last_used_at"], batch_size=500)
    newest: dict[tuple[UUID, UUID | None], list[Credential]] = {}
    for row in first:
        if row.ended_at is None and row.ends_at is None:
            newest.setdefault((row.tenant_id, row.device_uuid), []).append(row)
    superseded = [
        row
        for row in locked
        if row.ended_at is None
        and any(_supersedes(new, row) for new in newest.get((row.tenant_id, row.device_uuid), []))
    ]
    end(superseded, by=None, reason=SUPERSEDED)
    return used


def _supersedes(new: Credential, old: Credential) -> bool:
    """Passwords before it always; JWTs where a rotation has put an end to them, as the others run
    out by themselves and would only make the account's claims longer."""
    if old.pk >= new.pk:
        return False
    if old.kind == Credential.Kind.JWT:
        return old.ends_at is not None and (bool(new.device_uuid) or new.kind == old.kind)
    # Whichever it took up, a device has one agent.
    return bool(new.device_uuid) or new.kind == old.kind


def _locked(rows: QuerySet[Credential]) -> QuerySet[Credential]:
    """In the order in which everybody locks them."""
    return rows.order_by("pk").select_for_update()
