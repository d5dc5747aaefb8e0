"""Issue credentials and end them: the parts of which the other credential actions are made.

The broker revokes JWTs by the public key of their user and a moment: each JWT of that key with an
`iat` up to that moment. So each JWT of a key is issued later than the one before, and later than
the last revocation.
"""

import secrets as randomness
import string
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Max, QuerySet
from django.utils import timezone

from natsbridge.identity import nkeys
from natsbridge.postgres import locks
from natsbridge.postgres.locks import Lock
from tenants.audit.writer import (
    Actor,
    AuditEvent,
    actor_name,
    audit_event,
    device_actor,
    record_events,
)
from tenants.broker.accounts import announce_account
from tenants.broker.logins import device_jwt, tenant_credentials
from tenants.errors import CredentialRefused
from tenants.models import Action, Credential, Tenant, User, hash_token

Kind = Credential.Kind

PASSWORD_LENGTH = 32
PASSWORD_ALPHABET = string.ascii_letters + string.digits

# The most rows, and the most unused passwords, of a device that restarts again and again.
ROWS_OF_A_DEVICE = 20
UNUSED_PASSWORDS = 4
NEVER_USED = "it was never used, and newer ones were fetched"


@dataclass(frozen=True)
class Issued:
    """A new credential with its secret, which is stored nowhere.

    The secret is a device's JWT, the text of a tenant's `.creds` file, or a password.
    """

    credential: Credential
    secret: str = field(repr=False)
    username: str


def issue_device_jwt(tenant: UUID, device: UUID, nkey_public: str) -> Issued:
    """Issue a JWT with which the holder of the device's private key logs in.

    It is valid for DEVICE_JWT_SECONDS. A second call within a second returns the same JWT. The
    caller has checked that the device is not revoked. Raises CredentialRefused while the tenant is
    suspended.
    """
    with credential_lock(tenant, device):
        refuse_suspended(tenant)
        newest = Credential.objects.filter(public_key=nkey_public).order_by("-issued_at").first()
        now = int(time.time())
        if newest and _is_of_this_second(newest, tenant, device, now):
            row, issued_at = newest, _seconds(newest.issued_at)
        else:
            issued_at = max(now, _seconds(newest.issued_at) + 1) if newest else now
            row = _record(
                tenant,
                device,
                by=device_actor(device),
                kind=Kind.JWT,
                public_key=nkey_public,
                issued_at=_moment(issued_at),
                expires_at=_moment(issued_at + settings.DEVICE_JWT_SECONDS),
            )
            _forget_oldest(tenant, device)
        jwt = device_jwt(
            tenant,
            device,
            nkey_public,
            issued_at=issued_at,
            expires_at=_seconds(row.expires_at or row.issued_at),
        )
    return Issued(row, jwt, row.username)


def issue_device_password(tenant: UUID, device: UUID) -> Issued:
    """Issue a password for the device. Older ones stay valid until this one has been used.

    The caller has checked that the device is not revoked. Raises CredentialRefused while the
    tenant is suspended.
    """
    with credential_lock(tenant, device):
        refuse_suspended(tenant)
        issued = _new_password(tenant, device, by=device_actor(device))
        _forget_oldest(tenant, device)
    return issued


def issue_tenant_credential(tenant: Tenant, *, kind: Credential.Kind, by: User | None) -> Issued:
    """Issue one more credential of the tenant itself; the first use of a password ends older ones.

    Raises CredentialRefused while the tenant is suspended.
    """
    with credential_lock(tenant.pk):
        return new_for_tenant(tenant, kind, by=by)


def new_for_tenant(tenant: Tenant, kind: Credential.Kind, *, by: User | None) -> Issued:
    """Issue a credential inside the caller's `credential_lock` of the tenant."""
    refuse_suspended(tenant.pk)
    if kind == Kind.PASSWORD:
        return _new_password(tenant.pk, None, by=by)
    user = nkeys.generate("user")
    now = int(time.time())
    text = tenant_credentials(tenant, user, issued_at=now)
    row = _record(
        tenant.pk, None, by=by, kind=Kind.JWT, public_key=user.public, issued_at=_moment(now)
    )
    return Issued(row, text, row.username)


def create_placeholders(tenant: UUID, keys: Mapping[UUID, str | None]) -> list[Credential]:
    """Create rows that stand for all JWTs so far of these devices, so that they can be ended.

    `keys` has by device its public NKey, None for a device without one. Where a backup of the
    database was restored, JWTs that were issued after it have no row, although older ones have.
    """
    known = Credential.objects.filter(public_key__in=[key for key in keys.values() if key])
    newest = dict(known.order_by().values_list("public_key").annotate(Max("issued_at")))
    now, lifetime = _moment(int(time.time())), timedelta(seconds=settings.DEVICE_JWT_SECONDS)
    issued_at = {key: max(now, newest.get(key, now)) for key in keys.values() if key}
    return Credential.objects.bulk_create(
        [
            Credential(
                tenant_id=tenant,
                device_uuid=device,
                kind=Kind.JWT,
                public_key=key,
                issued_at=issued_at[key],
                expires_at=issued_at[key] + lifetime,
            )
            for device, key in keys.items()
            if key
        ],
        batch_size=500,
    )


def end_credentials(
    rows: Sequence[Credential],
    *,
    by: User | None,
    reason: str,
    action: Action = Action.CREDENTIAL_ENDED,
) -> None:
    """End the credentials in the caller's transaction, and have the broker told."""
    now = timezone.now()
    name = actor_name(by)
    for row in rows:
        row.ended_at, row.ended_by, row.ended_by_name = now, by, name
        row.end_reason = reason[:300]
    fields = ["ended_at", "ended_by", "ended_by_name", "end_reason"]
    Credential.objects.bulk_update(rows, fields, batch_size=500)
    record_events(credential_event(action, row, by=by, reason=reason) for row in rows)
    for tenant in sorted({row.tenant_id for row in rows}):
        announce_account(Tenant(pk=tenant))


def credential_event(
    action: Action, row: Credential, *, by: User | Actor | None, **detail: str
) -> AuditEvent:
    """Return the audit event of something that happened to this credential."""
    return audit_event(
        action,
        tenant=row.tenant_id,
        by=by,
        device=row.device_uuid,
        target=row.username,
        detail={"credential": row.pk, "kind": row.kind, **detail},
    )


@contextmanager
def credential_lock(tenant: UUID, device: UUID | None = None) -> Iterator[None]:
    """Open a transaction in which nobody else issues or ends these credentials.

    They are those of the device, or without one those of the tenant and all its devices.
    """
    with transaction.atomic():
        # The tenant's lock first, always, so that two never wait for each other.
        locks.lock(Lock.CREDENTIALS, tenant, shared=device is not None)
        if device:
            locks.lock(Lock.CREDENTIALS, device)
        yield


def locked_rows(rows: QuerySet[Credential]) -> QuerySet[Credential]:
    """Lock the rows, in the one order that keeps two callers from waiting for each other."""
    return rows.order_by("pk").select_for_update()


def refuse_suspended(tenant: UUID) -> None:
    """Raise CredentialRefused while the tenant is suspended."""
    if Tenant.objects.filter(pk=tenant).exclude(suspended_at=None).exists():
        raise CredentialRefused("The tenant is suspended.")


def _new_password(tenant: UUID, device: UUID | None, *, by: User | Actor | None) -> Issued:
    password = "".join(randomness.choice(PASSWORD_ALPHABET) for _ in range(PASSWORD_LENGTH))
    row = _record(tenant, device, by=by, kind=Kind.PASSWORD, digest=hash_token(password))
    return Issued(row, password, row.username)


def _record(
    tenant: UUID, device: UUID | None, *, by: User | Actor | None, **fields: object
) -> Credential:
    person = by if isinstance(by, User) else None
    row = Credential.objects.create(
        tenant_id=tenant, device_uuid=device, issued_by=person, **fields
    )
    record_events([credential_event(Action.CREDENTIAL_ISSUED, row, by=by)])
    return row


def _is_of_this_second(row: Credential, tenant: UUID, device: UUID, now: int) -> bool:
    """Return whether the row is this device's, was issued within this second, and is unchanged."""
    mine = (row.tenant_id, row.device_uuid) == (tenant, device)
    untouched = row.ended_at is None and row.ends_at is None
    return mine and untouched and _seconds(row.issued_at) >= now


def _forget_oldest(tenant: UUID, device: UUID) -> None:
    """Delete old rows, but keep the newest ended one of each key: it is the revocation."""
    rows = Credential.objects.filter(tenant=tenant, device_uuid=device)
    list(locked_rows(rows).values_list("pk"))
    unused = rows.live().filter(kind=Kind.PASSWORD, first_used_at=None).order_by("-id")
    _forget_unused(unused[UNUSED_PASSWORDS:])
    jwts = rows.filter(kind=Kind.JWT)
    voiding = jwts.exclude(ended_at=None).order_by("public_key", "-issued_at")
    kept = list(voiding.distinct("public_key").values_list("pk", flat=True))
    kept += rows.live().filter(kind=Kind.PASSWORD).values_list("pk", flat=True)
    kept += rows.order_by("-id").values_list("pk", flat=True)[:ROWS_OF_A_DEVICE]
    rows.exclude(pk__in=kept).delete()


def _forget_unused(rows: Iterable[Credential]) -> None:
    """Delete passwords that were never used, of which the broker need not be told."""
    gone = list(rows)
    record_events(
        credential_event(Action.CREDENTIAL_ENDED, row, by=None, reason=NEVER_USED) for row in gone
    )
    Credential.objects.filter(pk__in=[row.pk for row in gone]).delete()


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
