"""Record the use of credentials at logins. The first use of a new one ends older ones."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from tenants.broker.accounts import announce_account
from tenants.credentials.issue import end_credentials, locked_rows
from tenants.models import Credential, Tenant

SUPERSEDED = "a newer one is in use"


@dataclass(frozen=True)
class JwtUse:
    """A JWT that was used for a login: its subject and its `iat`."""

    public_key: str
    issued_at: int
    at: datetime


@transaction.atomic
def record_jwt_uses(uses: Sequence[JwtUse]) -> None:
    """Record logins by JWT. The first use of a JWT ends older ones that are being rotated."""
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
    _record_uses(seen)


@transaction.atomic
def record_password_uses(credentials: Iterable[Credential], *, at: datetime | None = None) -> None:
    """Record logins by password. The first use of a password ends older ones."""
    used = _record_uses(dict.fromkeys([row.pk for row in credentials], at or timezone.now()))
    # One that was revoked during its login leaves a connection, which has to be ended.
    for tenant in sorted({row.tenant_id for row in used if row.ended_at}):
        announce_account(Tenant(pk=tenant))


def _record_uses(seen: dict[int, datetime]) -> list[Credential]:
    """Record when each credential was used, by primary key, and return the rows."""
    fresh = Credential.objects.filter(pk__in=seen, first_used_at=None)
    owners = list(fresh.values_list("tenant", "device_uuid").order_by())
    of_devices = Q(
        tenant__in={tenant for tenant, device in owners if device},
        device_uuid__in={device for _, device in owners if device},
    )
    of_tenants = Q(tenant__in={tenant for tenant, device in owners if not device}, device_uuid=None)
    # Together with all that may end, since two callers that lock them in two steps could wait for
    # each other.
    wanted = Q(pk__in=seen) | ((of_devices | of_tenants) & Q(ended_at=None))
    locked = list(locked_rows(Credential.objects.filter(wanted)))
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
    end_credentials(superseded, by=None, reason=SUPERSEDED)
    return used


def _supersedes(new: Credential, old: Credential) -> bool:
    """Return whether the first use of `new` ends `old`.

    It ends older passwords, and older JWTs only during a rotation: the others expire by themselves,
    and revoking them would make the account's claims longer.
    """
    if old.pk >= new.pk:
        return False
    if old.kind == Credential.Kind.JWT:
        return old.ends_at is not None and (bool(new.device_uuid) or new.kind == old.kind)
    # A device has one agent, which has taken up the new one.
    return bool(new.device_uuid) or new.kind == old.kind
