"""A device comes to be, and moves."""

import base64
import binascii
import time
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from devices.errors import AlreadyRegistered, DeviceCannotMove, RegistrationRefused
from devices.models import Connectivity, Device
from natsbridge import claims
from tenants import secrets
from tenants.actions import find_enrollment_key, redeem_enrollment_key
from tenants.errors import EnrollmentRefused
from tenants.models import Group, hash_token

PROOF_SECONDS = 300


@dataclass(frozen=True)
class Proof:
    """That the caller holds the private half: `signature` is base64url of the NKey's Ed25519
    signature of `enroll:{group}:{nkey_public}:{timestamp}`, `timestamp` in epoch seconds."""

    timestamp: int
    signature: str


@dataclass(frozen=True)
class Registration:
    """`device_token` stands here in plain text and nowhere else."""

    device: Device
    device_token: str
    created: bool


@transaction.atomic
def register(
    *,
    group: UUID,
    name: str,
    enrollment_key: str,
    nkey_public: str,
    hardware_info: dict[str, Any],
    proof: Proof | None,
) -> Registration:
    """A new device, or the same one again with a fresh token.

    Raises EnrollmentRefused for the key, RegistrationRefused for a proof that is wrong,
    AlreadyRegistered when the key pair is known and there is no proof. Nothing is created then.
    """
    if proof is not None:
        _check(proof, group, nkey_public)
    _one_at_a_time(nkey_public)
    existing = Device.objects.select_for_update().filter(nkey_public=nkey_public).first()
    if existing is not None:
        return _register_again(existing, group, enrollment_key, proof)
    redeemed = redeem_enrollment_key(enrollment_key, group)
    device = Device(
        group=redeemed.group, name=name, nkey_public=nkey_public, hardware_info=hardware_info
    )
    device.save(force_insert=True)
    Connectivity.objects.create(device=device)
    return Registration(device, _fresh_token(device), created=True)


def _register_again(
    device: Device, group: UUID, enrollment_key: str, proof: Proof | None
) -> Registration:
    """The answer to the first time may have been lost, so a key that is used up serves as well."""
    key = find_enrollment_key(enrollment_key, group)
    if key.revoked_at:
        raise EnrollmentRefused(key.refusal)
    if proof is None:
        raise AlreadyRegistered(
            "This key pair is registered already; sign the request to register it again."
        )
    if device.group_id != group:
        raise AlreadyRegistered("This key pair is registered in another group.")
    return Registration(device, _fresh_token(device), created=False)


def _one_at_a_time(nkey_public: str) -> None:
    """Two registrations of one key pair at once take turns; until there is a row, nothing else
    could be locked."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [nkey_public])


@transaction.atomic
def move(device: Device, group: Group) -> None:
    if group.tenant_id != device.tenant_id:
        raise DeviceCannotMove(
            "A device stays within its tenant: its credentials are those of the tenant's account. "
            "Register it anew there."
        )
    device.group = group
    device.save(update_fields=["group"])


def _fresh_token(device: Device) -> str:
    token = secrets.new_token("wgd")
    device.token_digest = hash_token(token)
    device.save(update_fields=["token_digest"])
    return token


def _check(proof: Proof, group: UUID, nkey_public: str) -> None:
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
    if not claims.verify(nkey_public, signed, signature):
        raise RegistrationRefused("The signature does not match the public key.")
