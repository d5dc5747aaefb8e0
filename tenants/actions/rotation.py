"""A new credential takes the place of an old one, which works on through an overlap."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connection
from django.db.models import QuerySet
from django.utils import timezone

from tenants.actions import audit
from tenants.actions.accounts import SCOPED, announce_account, ensure_broker_key
from tenants.actions.issuing import Issued, alone, end, new_for_tenant, note, stand_in
from tenants.durations import LONGEST_OVERLAP
from tenants.errors import RotationRefused
from tenants.models import Action, BrokerKey, Credential, Tenant, User

ROTATED = "rotated"

# The channel on which a subscriber hears that agents are to fetch new credentials.
RENEWALS_CHANNEL = "wegweiser_renewals"


def newest(tenant: UUID, kind: Credential.Kind) -> Credential | None:
    """The tenant's own newest credential of this kind that is live: what `replaces` names."""
    return _live(tenant, None, kind).order_by("-id").first()


def rotate_tenant(
    tenant: Tenant,
    *,
    by: User | None,
    overlap: timedelta,
    kind: Credential.Kind,
    replaces: Credential | None,
) -> Issued:
    """A new credential of the tenant; those before it end after `overlap`, or as soon as the new
    one has been used.

    `replaces` is the newest one that the caller saw. Raises RotationRefused when somebody else was
    faster or an overlap is open (unless `overlap` is nothing), CredentialRefused while the tenant
    is suspended.
    """
    _check(overlap)
    with alone(tenant.pk):
        current = newest(tenant.pk, kind)
        if current != replaces:
            raise RotationRefused(
                "Somebody else has rotated this tenant's credential meanwhile: look again."
            )
        return _rotate_own(tenant, kind, by=by, overlap=overlap)


def rotate_device(
    tenant: UUID,
    device: UUID,
    *,
    by: User | None,
    overlap: timedelta,
    nkey_public: str | None = None,
) -> None:
    """What the device holds ends after `overlap`, or as soon as a newer one has been used; its
    agent is told to fetch a new one. With `nkey_public` a JWT that no row tells of ends as well.

    Raises RotationRefused while an overlap is open (unless `overlap` is nothing).
    """
    _check(overlap)
    with alone(tenant, device):
        rows = list(_live(tenant, device).select_for_update())
        _refuse_open(rows, overlap)
        if nkey_public and not any(row.public_key == nkey_public for row in rows):
            rows.append(stand_in(tenant, device, nkey_public))
        _put_an_end(rows, by=by, overlap=overlap)


def rotate_all(
    tenant: Tenant, *, by: User | None, overlap: timedelta, kind: Credential.Kind
) -> Issued:
    """The tenant's own credential of this kind, and those of all its devices; of a device that is
    being rotated already the overlap stays as it is, or gets shorter."""
    _check(overlap)
    with alone(tenant.pk):
        rows = list(_of_devices(tenant.pk).select_for_update())
        issued = _rotate_own(tenant, kind, by=by, overlap=overlap)
        _put_an_end(rows, by=by, overlap=overlap)
    return issued


def rotate_keys(tenant: Tenant, *, by: User | None, overlap: timedelta) -> None:
    """New scoped signing keys. What the old ones signed ends after `overlap`, and they with it: so
    the tenant needs a new credential of its own, and its agents are told to fetch one each.

    Without an overlap every device is disconnected at once. Raises RotationRefused while older
    keys are still to retire (unless `overlap` is nothing).
    """
    _check(overlap)
    with alone(tenant.pk):
        keys = BrokerKey.objects.select_for_update().filter(tenant=tenant, purpose__in=SCOPED)
        if overlap and keys.exclude(retires_at=None).exists():
            raise RotationRefused(
                "The signing keys before these are still to retire; with an overlap of 0 they "
                "and these go at once."
            )
        retires_at = timezone.now() + overlap
        keys.update(retires_at=retires_at)
        for purpose in SCOPED:
            ensure_broker_key(purpose, tenant)
        rows = list(_signed(tenant.pk).select_for_update())
        _put_an_end(rows, by=by, overlap=overlap)
        announce_account(tenant)
        audit.record(
            Action.KEYS_ROTATED,
            tenant=tenant.pk,
            by=by,
            target=tenant.name,
            detail={"retires_at": retires_at.isoformat()},
        )


def retire_keys() -> int:
    """Forgets the signing keys whose time is over; how many those were."""
    due = BrokerKey.objects.filter(retires_at__lte=timezone.now()).select_related("tenant")
    found = list(due)
    for key in found:
        key.delete()
        if key.tenant:
            announce_account(key.tenant)
    return len(found)


def _rotate_own(
    tenant: Tenant, kind: Credential.Kind, *, by: User | None, overlap: timedelta
) -> Issued:
    rows = list(_live(tenant.pk, None, kind).select_for_update())
    # Where all are ending, their signing keys are: what is to follow them is this.
    if any(row.ends_at is None for row in rows):
        _refuse_open(rows, overlap)
    issued = new_for_tenant(tenant, kind, by=by)
    _put_an_end(rows, by=by, overlap=overlap)
    return issued


def _put_an_end(rows: Sequence[Credential], *, by: User | None, overlap: timedelta) -> None:
    if not overlap:
        end(rows, by=by, reason=ROTATED)
        return
    ends_at = timezone.now() + overlap
    for row in rows:
        # One that would have ended before is not given more time.
        row.ends_at = min(ends_at, row.ends_at or ends_at)
        note(Action.CREDENTIAL_ROTATED, row, by=by, ends_at=row.ends_at.isoformat())
    Credential.objects.bulk_update(rows, ["ends_at"], batch_size=500)
    if any(row.device_uuid for row in rows):
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_notify(%s, '')", [RENEWALS_CHANNEL])


def _refuse_open(rows: Sequence[Credential], overlap: timedelta) -> None:
    open_until = [row.ends_at for row in rows if row.ends_at]
    if open_until and overlap:
        raise RotationRefused(
            f"A rotation is under way until {_text(max(open_until))}; with an overlap of 0 the "
            "older credentials end at once."
        )


def _check(overlap: timedelta) -> None:
    if not timedelta(0) <= overlap <= LONGEST_OVERLAP:
        raise RotationRefused(f"An overlap is between 0 and {LONGEST_OVERLAP.days} days.")


def _live(
    tenant: UUID, device: UUID | None, kind: Credential.Kind | None = None
) -> QuerySet[Credential]:
    rows = Credential.objects.live().filter(tenant=tenant, device_uuid=device)
    return rows.filter(kind=kind) if kind else rows


def _of_devices(tenant: UUID) -> QuerySet[Credential]:
    return Credential.objects.live().filter(tenant=tenant).exclude(device_uuid=None)


def _signed(tenant: UUID) -> QuerySet[Credential]:
    return Credential.objects.live().filter(tenant=tenant, kind=Credential.Kind.JWT)


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M UTC")
