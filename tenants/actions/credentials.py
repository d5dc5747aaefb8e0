"""What opens the broker: issued, used, rotated, revoked, ended. Each step is audited."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from tenants.actions.accounts import announce_account
from tenants.actions.issuing import (
    Issued,
    alone,
    end,
    issue_device_jwt,
    issue_device_password,
    issue_tenant_credential,
    stand_in,
)
from tenants.actions.rotation import (
    newest,
    retire_keys,
    rotate_all,
    rotate_device,
    rotate_keys,
    rotate_tenant,
)
from tenants.models import Action, Credential, Tenant, User

__all__ = [
    "Issued",
    "Use",
    "end_due",
    "issue_device_jwt",
    "issue_device_password",
    "issue_tenant_credential",
    "newest",
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
    row = Credential.objects.select_for_update().get(pk=credential.pk)
    if row.ended_at is None:
        end([row], by=by, reason=reason, action=Action.CREDENTIAL_REVOKED)


def revoke_device(
    tenant: UUID, device: UUID, nkey_public: str | None, *, by: User | None, reason: str
) -> None:
    """Voids all that the device holds, also a JWT that no row tells of."""
    with alone(tenant, device):
        held = Credential.objects.filter(tenant=tenant, device_uuid=device, ended_at=None)
        rows = list(held.select_for_update())
        if nkey_public:
            rows.append(stand_in(tenant, device, nkey_public))
        end(rows, by=by, reason=reason, action=Action.CREDENTIAL_REVOKED)


@transaction.atomic
def record_use(uses: Sequence[Use]) -> None:
    """JWTs were seen at logins. A JWT's first use ends those before it that are being rotated."""
    latest: dict[tuple[str, int], datetime] = {}
    for use in uses:
        known = (use.public_key, use.issued_at)
        latest[known] = max(use.at, latest.get(known, use.at))
    rows = Credential.objects.select_for_update().filter(
        kind=Credential.Kind.JWT, public_key__in={key for key, _ in latest}
    )
    seen = {}
    for row in rows.order_by("pk"):
        at = latest.get((row.public_key, int(row.issued_at.timestamp())))
        if at is not None:
            seen[row] = at
    _note_uses(seen)


@transaction.atomic
def record_password_use(credentials: Iterable[Credential], *, at: datetime | None = None) -> None:
    """These opened the broker. A password's first use ends those before it."""
    found = Credential.objects.select_for_update().filter(pk__in={row.pk for row in credentials})
    rows = list(found.order_by("pk"))
    _note_uses(dict.fromkeys(rows, at or timezone.now()))
    # Revoked while its login was under way: that connection is still to be ended.
    for tenant in sorted({row.tenant_id for row in rows if row.ended_at}):
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


def _note_uses(seen: dict[Credential, datetime]) -> None:
    """Of rows that the caller has locked."""
    first = [row for row in seen if row.first_used_at is None]
    for row, at in seen.items():
        row.first_used_at = row.first_used_at or at
        row.last_used_at = max(at, row.last_used_at or at)
    Credential.objects.bulk_update(seen, ["first_used_at", "last_used_at"], batch_size=500)
    fresh = [row for row in first if row.ended_at is None and row.ends_at is None]
    superseded = Q(pk__in=())
    for row in fresh:
        superseded |= _superseded_by(row)
    if fresh:
        older = Credential.objects.select_for_update().filter(superseded, ended_at=None)
        end(list(older.order_by("pk")), by=None, reason=SUPERSEDED)


def _superseded_by(row: Credential) -> Q:
    """Passwords before it always; JWTs where a rotation has put an end to them, as the others run
    out by themselves and would only make the account's claims longer."""
    older = Q(tenant=row.tenant_id, device_uuid=row.device_uuid, pk__lt=row.pk)
    passwords = Q(kind=Credential.Kind.PASSWORD)
    rotated = Q(kind=Credential.Kind.JWT, ends_at__isnull=False)
    if row.device_uuid:
        # Whichever it took up, it has one agent.
        return older & (passwords | rotated)
    return older & (passwords if row.kind == Credential.Kind.PASSWORD else rotated)
