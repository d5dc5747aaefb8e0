"""Register, record and upgrade devices."""

import base64
import binascii
import time
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from devices.errors import (
    AlreadyRegistered,
    RegistrationForbidden,
    RegistrationRefused,
    TooManyDevices,
    UpgradeRefused,
)
from devices.models import Connectivity, Device, Onboarding, RegistrationProof
from natsbridge.identity import nkeys
from natsbridge.postgres import locks
from natsbridge.postgres.locks import Lock
from tenants.actions.keys import find_enrollment_key, redeem_enrollment_key
from tenants.actions.limits import UNLIMITED, tenant_limits
from tenants.audit.writer import Actor, device_actor, record_action
from tenants.credentials.issue import Issued, issue_device_jwt, issue_device_password
from tenants.credentials.revocations import revoke_device_credentials
from tenants.errors import EnrollmentRefused
from tenants.models import Action, Credential, EnrollmentKey, Group, Tenant, User, hash_token
from tenants.rules import secrets

PROOF_SECONDS = 300
# While a JWT could still be valid, each key that a device gave up has to be revoked in the claims
# of its tenant's account.
MOST_UPGRADES = 20


@dataclass(frozen=True)
class Proof:
    """A proof that the caller holds the private half of a key pair.

    `signature` is the NKey's Ed25519 signature of `enroll:{group}:{nkey_public}:{timestamp}` in
    base64url; `timestamp` is in epoch seconds, and later than in any earlier proof of this key.
    """

    timestamp: int
    signature: str


@dataclass(frozen=True)
class Registration:
    """A registered device; only here is its token in plain text."""

    device: Device
    device_token: str = field(repr=False)
    created: bool


@dataclass(frozen=True)
class Upgraded:
    """A new credential, and a new `device_token` if a person asked for the upgrade. The secrets are
    kept nowhere else."""

    issued: Issued
    device_token: str | None = field(repr=False)


@transaction.atomic
def register(
    *,
    group: UUID,
    name: str,
    enrollment_key: str,
    nkey_public: str | None,
    hardware_info: dict[str, Any],
    proof: Proof | None,
) -> Registration:
    """Register a new device, or a known one again with a fresh token.

    Without a key pair every registration is a new device and a use of the enrolment key, since
    nothing could prove that it is a known one.

    Raise EnrollmentRefused for the key, RegistrationRefused for a proof that is wrong or was used
    before, AlreadyRegistered if the key pair is known and there is no proof,
    RegistrationForbidden while the tenant is suspended or the device revoked, TooManyDevices.
    Nothing is created in these cases.
    """
    if nkey_public is not None:
        if proof is not None:
            _check_proof(proof, group, nkey_public)
        # Until there is a row, nothing else could be locked.
        locks.lock(Lock.DEVICE_KEY, nkey_public)
        if proof is not None:
            _use_proof(proof, nkey_public)
        existing = Device.objects.select_for_update().filter(nkey_public=nkey_public).first()
        if existing is not None:
            return _register_by_proof(existing, group, enrollment_key, proof)
    redeemed = redeem_enrollment_key(enrollment_key, group)
    _refuse_suspended(redeemed.group.tenant)
    refuse_too_many(redeemed.group.tenant)
    device = Device(
        group=redeemed.group, name=name, nkey_public=nkey_public, hardware_info=hardware_info
    )
    device.save(force_insert=True)
    Connectivity.objects.create(device=device)
    _record_registration(device, redeemed, again=False)
    return Registration(device, _fresh_token(device), created=True)


def _register_by_proof(
    device: Device, group: UUID, enrollment_key: str, proof: Proof | None
) -> Registration:
    """Give a known device a fresh token. The enrolment key may be used up, since the answer to the
    first registration may have been lost."""
    key = find_enrollment_key(enrollment_key, group)
    if key.revoked_at:
        raise EnrollmentRefused(key.refusal)
    if proof is None:
        raise AlreadyRegistered(
            "This key pair is registered already; sign the request to register it again."
        )
    if device.group_id != group:
        raise AlreadyRegistered("This key pair is registered in another group.")
    return register_again(device, key)


def register_again(device: Device, key: EnrollmentKey) -> Registration:
    """Give a registered device a fresh token in place of the one before, in the caller's
    transaction. Raise RegistrationForbidden while the tenant is suspended or the device revoked."""
    _refuse_suspended(device.tenant)
    if device.refusal:
        raise RegistrationForbidden(device.refusal)
    _record_registration(device, key, again=True)
    return Registration(device, _fresh_token(device), created=False)


@transaction.atomic
def record_existing(
    group: Group,
    name: str,
    uuid: UUID | None = None,
    connection_type: str = "node-red",
    *,
    by: User | None,
) -> Device:
    """Record a device that was registered by other means; it has no token and no key until it is
    upgraded. Raise AlreadyRegistered if a device has this UUID, TooManyDevices."""
    locks.lock(Lock.DEVICE_IMPORT)
    device = Device(group=group, name=name, **({"uuid": uuid} if uuid else {}))
    if Device.objects.filter(pk=device.pk).exists():
        raise AlreadyRegistered(f"A device with the UUID {device.pk} exists already.")
    refuse_too_many(group.tenant)
    device.save(force_insert=True)
    Connectivity.objects.create(device=device, connection_type=connection_type)
    Onboarding.objects.create(device=device, came_from=connection_type)
    _record(Action.DEVICE_REGISTERED, device, by, connection_type=connection_type)
    return device


@transaction.atomic
def upgrade(device: Device, *, nkey_public: str | None, by: User | None) -> Upgraded:
    """Issue a NATS credential to a device that was registered by other means. With `by=None` the
    device itself asks, and keeps its token.

    Raise UpgradeRefused if its agent has logged in already or it is revoked, AlreadyRegistered if
    the key pair is another device's, CredentialRefused while the tenant is suspended.
    """
    row = Device.objects.select_for_update(of=("self",)).get(pk=device.pk)
    if row.refusal:
        raise UpgradeRefused(row.refusal)
    if by is None and row.token_digest != device.token_digest:
        raise UpgradeRefused("The device token has become invalid.")
    issued_before = Credential.objects.filter(device_uuid=row.pk)
    if issued_before.exclude(first_used_at=None).exists():
        raise UpgradeRefused("This device speaks NATS already.")
    issued_keys = issued_before.filter(kind=Credential.Kind.JWT, expires_at__gt=timezone.now())
    if issued_keys.values("public_key").distinct().count() >= MOST_UPGRADES:
        raise UpgradeRefused("This device was upgraded too often; delete it and register it anew.")
    if nkey_public is not None:
        # Until there is a row, nothing else could be locked.
        locks.lock(Lock.DEVICE_KEY, nkey_public)
        if Device.objects.filter(nkey_public=nkey_public).exclude(pk=row.pk).exists():
            raise AlreadyRegistered("This key pair is registered already.")
    if issued_before.exists():
        reason = "upgraded again"
        revoke_device_credentials(row.tenant_id, row.pk, row.nkey_public, by=by, reason=reason)
    row.nkey_public = nkey_public
    row.save(update_fields=["nkey_public"])
    Onboarding.objects.filter(device=row).update(issued_at=timezone.now())
    token = _fresh_token(row) if by else None
    actor = by or device_actor(row.pk)
    # It changes once the agent speaks NATS.
    known = Connectivity.objects.filter(device=row).values_list("connection_type", flat=True)
    _record(Action.DEVICE_UPGRADED, row, actor, connection_type=known.first())
    return Upgraded(issue_credential(row), token)


def issue_credential(device: Device) -> Issued:
    """Issue a JWT to a device that has registered a key, else a password.

    The caller has checked that it is not revoked. Raise CredentialRefused while the tenant is
    suspended.
    """
    if device.nkey_public:
        return issue_device_jwt(device.tenant_id, device.pk, device.nkey_public)
    return issue_device_password(device.tenant_id, device.pk)


def note_token_use(device: Device) -> None:
    """Store when the device's token was first used."""
    if device.token_used_at is None:
        unused = Device.objects.filter(pk=device.pk, token_digest=device.token_digest)
        unused.update(token_used_at=timezone.now())


def _refuse_suspended(tenant: Tenant) -> None:
    if tenant.suspended_at:
        raise RegistrationForbidden("The tenant is suspended.")


def refuse_too_many(tenant: Tenant, adding: int = 1) -> None:
    """Raise TooManyDevices if so many more exceed the tenant's limit. No other transaction adds a
    device to the tenant until the caller's ends."""
    most = tenant_limits(tenant)["max_devices"]["value"]
    if most is None or most == UNLIMITED:
        return
    locks.lock(Lock.TENANT_DEVICES, tenant.pk)
    there = Device.objects.in_fleet().filter(tenant=tenant).count()
    if there + adding > most:
        limit = f"{tenant.name} has reached its limit of devices, {most:,}."
        if adding > 1:
            limit = f"{tenant.name} may have {most:,} devices; {there:,} and {adding:,} are more."
        raise TooManyDevices(
            f"{limit} Archive or delete devices that are gone, or ask the staff of this "
            "installation for a higher limit."
        )


def _record_registration(device: Device, key: EnrollmentKey, *, again: bool) -> None:
    opened_by = {"key": key.pk, "name": key.name}
    itself = device_actor(device.pk)
    _record(Action.DEVICE_REGISTERED, device, itself, enrolment_key=opened_by, again=again)


def _record(action: Action, device: Device, by: User | Actor | None, **detail: Any) -> None:
    record_action(
        action,
        tenant=device.tenant_id,
        by=by,
        device=device.pk,
        target=f"device {device.name}",
        detail=detail,
    )


def _fresh_token(device: Device) -> str:
    token = secrets.new_token("wgd")
    device.token_digest, device.token_used_at = hash_token(token), None
    device.save(update_fields=["token_digest", "token_used_at"])
    return token


def _check_proof(proof: Proof, group: UUID, nkey_public: str) -> None:
    if abs(time.time() - proof.timestamp) > PROOF_SECONDS:
        raise RegistrationRefused(
            "The signature's timestamp is more than 5 minutes off; set the computer's clock."
        )
    signed = f"enroll:{group}:{nkey_public}:{proof.timestamp}".encode()
    try:
        padding = "=" * (-len(proof.signature) % 4)
        signature = base64.b64decode(proof.signature + padding, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise RegistrationRefused("The signature is not base64url.") from error
    if not nkeys.verify(nkey_public, signed, signature):
        raise RegistrationRefused("The signature does not match the public key.")


def _use_proof(proof: Proof, nkey_public: str) -> None:
    """Accept a proof only once, so that nobody who recorded a registration can replay it and void
    the device's token. The caller has locked the key."""
    newest = RegistrationProof.objects.filter(nkey_public=nkey_public).first()
    if newest and proof.timestamp <= newest.timestamp:
        raise RegistrationRefused(
            "This key pair has signed a registration with this timestamp or a later one before; "
            f"sign with a timestamp after {newest.timestamp}."
        )
    RegistrationProof.objects.update_or_create(
        nkey_public=nkey_public, defaults={"timestamp": proof.timestamp}
    )
