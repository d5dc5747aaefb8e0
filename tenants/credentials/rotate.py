"""Replace credentials and signing keys; the old ones stay valid during an overlap."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from natsbridge.postgres.wakeups import notify
from tenants.audit.writer import record_action, record_events
from tenants.broker.accounts import SCOPED, announce_account, ensure_broker_key
from tenants.broker.claims import has_too_many_revocations
from tenants.credentials import renewals
from tenants.credentials.issue import (
    Issued,
    create_placeholders,
    credential_event,
    credential_lock,
    end_credentials,
    locked_rows,
    new_for_tenant,
    refuse_suspended,
)
from tenants.credentials.renewals import renewing_devices
from tenants.errors import RotationRefused
from tenants.models import Action, BrokerKey, Credential, Tenant, User
from tenants.rules.durations import LONGEST_OVERLAP

ROTATED = "rotated"
CROWDED = "so much was revoked that the devices' signing key was replaced"


def newest_credential(tenant: UUID, kind: Credential.Kind) -> Credential | None:
    """Return the tenant's newest valid credential of this kind, which a rotation `replaces`."""
    return _live(tenant, None, kind).order_by("-id").first()


def rotate_tenant(
    tenant: Tenant,
    *,
    by: User | None,
    overlap: timedelta,
    kind: Credential.Kind,
    replaces: Credential | None,
) -> Issued:
    """Issue a new credential of the tenant; older ones end after `overlap`, or at its first use.

    `replaces` is the newest credential that the caller saw. Raises RotationRefused when somebody
    else was faster, or while an overlap is running (unless `overlap` is zero), and
    CredentialRefused while the tenant is suspended.
    """
    _check(overlap)
    with credential_lock(tenant.pk):
        _refuse_another(tenant, kind, replaces)
        return _rotate_own(tenant, kind, by=by, overlap=overlap)


def rotate_device(
    tenant: UUID,
    device: UUID,
    *,
    by: User | None,
    overlap: timedelta,
    nkey_public: str | None = None,
) -> None:
    """Tell the device's agent to fetch a new credential; older ones end after `overlap`.

    They end earlier once the new one has been used. With `nkey_public`, a JWT without a row ends
    too. A JWT of an agent that cannot be told stays valid until it expires.

    Raises RotationRefused (unless `overlap` is zero) while an overlap is running, and where the
    password of an agent that cannot be told would end.
    """
    _check(overlap)
    with credential_lock(tenant, device):
        rows = list(locked_rows(_live(tenant, device)))
        _refuse_open(rows, overlap)
        if overlap and not renewing_devices([device]) and any(map(_is_password, rows)):
            raise RotationRefused(
                "This device's agent does not fetch a new password when told to, and would be "
                "locked out. Restart it, so that it fetches one: the old password ends at the "
                "first use of the new one. An overlap of 0 ends the old one at once."
            )
        rows += create_placeholders(tenant, {device: nkey_public})
        told = renewing_devices([device])
        _end_after(rows, by=by, overlap=overlap, sparing=[] if told else [device])


def rotate_all(
    tenant: Tenant,
    *,
    by: User | None,
    overlap: timedelta,
    kind: Credential.Kind,
    replaces: Credential | None,
) -> Issued:
    """Rotate the tenant's own credential, as `rotate_tenant` does, and those of all its devices.

    A device that is already being rotated keeps the shorter overlap. Unless `overlap` is zero, the
    `devices_not_renewing` keep their credentials until they have used a newer one.
    """
    _check(overlap)
    with credential_lock(tenant.pk):
        _refuse_another(tenant, kind, replaces)
        rows = list(locked_rows(_of_devices(tenant.pk)))
        issued = _rotate_own(tenant, kind, by=by, overlap=overlap)
        _end_after(rows, by=by, overlap=overlap, sparing=devices_not_renewing(tenant))
    return issued


def devices_not_renewing(tenant: Tenant) -> list[UUID]:
    """Return the devices with a valid credential whose agents do not renew it when told to."""
    found = _of_devices(tenant.pk).order_by("device_uuid").values_list("device_uuid", flat=True)
    devices = [device for device in found.distinct() if device]
    able = renewing_devices(devices)
    return [device for device in devices if device not in able]


def rotate_keys(tenant: Tenant, *, by: User | None, overlap: timedelta) -> None:
    """Replace the scoped signing keys; what the old ones signed ends with them after `overlap`.

    The tenant needs a new credential of its own then, and its agents are told to fetch theirs.
    Without an overlap every device is disconnected at once. Raises RotationRefused while older keys
    are still valid (unless `overlap` is zero).
    """
    _check(overlap)
    with credential_lock(tenant.pk):
        keys = BrokerKey.objects.select_for_update().filter(tenant=tenant, purpose__in=SCOPED)
        if overlap and keys.exclude(retires_at=None).exists():
            raise RotationRefused(
                "Older signing keys are still valid. Wait until they retire, or use an overlap "
                "of 0, which ends those and the current ones at once."
            )
        retires_at = timezone.now() + overlap
        keys.update(retires_at=retires_at)
        for purpose in SCOPED:
            ensure_broker_key(purpose, tenant)
        rows = list(locked_rows(_signed(tenant.pk)))
        _end_after(rows, by=by, overlap=overlap)
        announce_account(tenant)
        _record_keys(tenant, by, retires_at=retires_at.isoformat())


def make_room_for_revocations(tenant: Tenant) -> bool:
    """Replace the devices' signing key when the claims have no room for more revocations.

    What the old key signed is then invalid without being listed. All devices are disconnected and
    come back with their tokens; the tenant's own credentials stay valid. Return whether the key was
    replaced.
    """
    if not has_too_many_revocations(tenant.pk):
        return False
    with credential_lock(tenant.pk):
        device_keys = BrokerKey.objects.filter(tenant=tenant, purpose=BrokerKey.Purpose.DEVICE)
        device_keys.delete()
        ensure_broker_key(BrokerKey.Purpose.DEVICE, tenant)
        jwts = _of_devices(tenant.pk).filter(kind=Credential.Kind.JWT)
        end_credentials(list(locked_rows(jwts)), by=None, reason=CROWDED)
        announce_account(tenant)
        _record_keys(tenant, None, reason=CROWDED)
    return True


@transaction.atomic
def retire_keys() -> int:
    """Delete the signing keys whose overlap is over, and return how many there were."""
    due = BrokerKey.objects.select_for_update(of=("self",), skip_locked=True)
    found = list(due.filter(retires_at__lte=timezone.now()).select_related("tenant"))
    for key in found:
        key.delete()
        if key.tenant:
            announce_account(key.tenant)
    return len(found)


def _record_keys(tenant: Tenant, by: User | None, **detail: str) -> None:
    record_action(Action.KEYS_ROTATED, tenant=tenant.pk, by=by, target=tenant.name, detail=detail)


def _refuse_another(tenant: Tenant, kind: Credential.Kind, replaces: Credential | None) -> None:
    refuse_suspended(tenant.pk)
    if newest_credential(tenant.pk, kind) == replaces:
        return
    raise RotationRefused(
        "Somebody else has rotated this tenant's credential meanwhile. Reload and try again."
        if replaces
        else "The tenant has a credential already. Name the one that the new one replaces."
    )


def _rotate_own(
    tenant: Tenant, kind: Credential.Kind, *, by: User | None, overlap: timedelta
) -> Issued:
    rows = list(locked_rows(_live(tenant.pk, None, kind)))
    # Where all of them are ending, their signing keys were rotated, and this one follows them.
    if any(row.ends_at is None for row in rows):
        _refuse_open(rows, overlap)
    issued = new_for_tenant(tenant, kind, by=by)
    _end_after(rows, by=by, overlap=overlap)
    return issued


def _end_after(
    rows: Sequence[Credential],
    *,
    by: User | None,
    overlap: timedelta,
    sparing: Collection[UUID] = (),
) -> None:
    """End the credentials after the overlap, or at once without one.

    A spared device keeps its password until it has used a newer one, and its JWT also until it
    expires.
    """
    if not overlap:
        end_credentials(rows, by=by, reason=ROTATED)
        return
    usual, spared = timezone.now() + overlap, set(sparing)
    rotated = []
    for row in rows:
        ends_at = row.expires_at if row.device_uuid in spared else usual
        if ends_at is None:
            continue
        # A credential that ends earlier is not given more time.
        row.ends_at = min(ends_at, row.ends_at or ends_at)
        rotated.append(row)
    Credential.objects.bulk_update(rotated, ["ends_at"], batch_size=500)
    record_events(
        credential_event(Action.CREDENTIAL_ROTATED, row, by=by, ends_at=row.ends_at.isoformat())
        for row in rotated
        if row.ends_at
    )
    if any(row.device_uuid for row in rotated):
        notify(renewals.RENEWALS_CHANNEL)


def _refuse_open(rows: Sequence[Credential], overlap: timedelta) -> None:
    open_until = [row.ends_at for row in rows if row.ends_at]
    if open_until and overlap:
        raise RotationRefused(
            f"A rotation is running until {_text(max(open_until))}. Wait for its end, or use an "
            "overlap of 0, which ends the older credentials at once."
        )


def _check(overlap: timedelta) -> None:
    if not timedelta(0) <= overlap <= LONGEST_OVERLAP:
        raise RotationRefused(f"An overlap must be from 0 to {LONGEST_OVERLAP.days} days.")


def _live(
    tenant: UUID, device: UUID | None, kind: Credential.Kind | None = None
) -> QuerySet[Credential]:
    rows = Credential.objects.live().filter(tenant=tenant, device_uuid=device)
    return rows.filter(kind=kind) if kind else rows


def _of_devices(tenant: UUID) -> QuerySet[Credential]:
    return Credential.objects.live().filter(tenant=tenant).exclude(device_uuid=None)


def _signed(tenant: UUID) -> QuerySet[Credential]:
    return Credential.objects.live().filter(tenant=tenant, kind=Credential.Kind.JWT)


def _is_password(row: Credential) -> bool:
    return row.kind == Credential.Kind.PASSWORD


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M UTC")
