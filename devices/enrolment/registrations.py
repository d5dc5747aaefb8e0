"""Register a device and issue its first credential, by a request that may be sent again."""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db import transaction

from devices.enrolment.actions import (
    Registration,
    issue_credential,
    register,
    register_again,
)
from devices.errors import AlreadyRegistered
from devices.models import Device
from tenants.actions.idempotency import IdempotencyKey, claim, finish
from tenants.actions.keys import find_enrollment_key
from tenants.credentials.issue import Issued
from tenants.credentials.revocations import revoke_device_credentials
from tenants.errors import EnrollmentRefused
from tenants.models import Credential, EnrollmentKey

SENT_AGAIN = "its registration was sent again before it was used"


@dataclass(frozen=True)
class Registered:
    """A registration with the device's credential; the secrets are stored nowhere."""

    registration: Registration
    issued: Issued = field(repr=False)


@transaction.atomic
def register_once(
    idempotency_key: IdempotencyKey | None, *, group: UUID, enrollment_key: str, **asked: Any
) -> Registered:
    """Register as `register` does. An enrolment key's idempotency key returns the device that it
    registered before, with fresh secrets in place of the unused ones.

    Raise IdempotencyKeyReused, and AlreadyRegistered once any of its secrets has been used, since a
    recorded registration must not take a device over. Else raise what `register` raises.
    """
    claimed = None
    if idempotency_key is not None:
        opened_by = find_enrollment_key(enrollment_key, group)
        claimed = claim(f"enrolment key {opened_by.pk}", idempotency_key)
        if claimed.outcome is not None:
            return _replaced(claimed.outcome, opened_by)
    made = register(group=group, enrollment_key=enrollment_key, **asked)
    finish(claimed, made.device.pk)
    return Registered(made, issue_credential(made.device))


def _replaced(uuid: UUID, key: EnrollmentKey) -> Registered:
    """Return the device with fresh secrets. The enrolment key may be used up, as it was for this
    device."""
    if key.revoked_at:
        raise EnrollmentRefused(key.refusal)
    device = Device.objects.select_for_update(of=("self",)).filter(pk=uuid).first()
    if device is None:
        raise AlreadyRegistered(
            "The device that this request registered was deleted; send it with another "
            "Idempotency-Key."
        )
    used = Credential.objects.filter(device_uuid=uuid).exclude(first_used_at=None).exists()
    if used or device.token_used_at is not None:
        raise AlreadyRegistered(
            "This request has registered a device, which has used its token or its credential "
            "since; register another one with another Idempotency-Key."
        )
    again = register_again(device, key)
    tenant, public_key = device.tenant_id, device.nkey_public
    revoke_device_credentials(tenant, uuid, public_key, by=None, reason=SENT_AGAIN)
    return Registered(again, issue_credential(device))
