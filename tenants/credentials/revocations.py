"""Revoke credentials, and end those whose overlap is over."""

from collections.abc import Mapping
from uuid import UUID

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from tenants.credentials.issue import (
    create_placeholders,
    credential_lock,
    end_credentials,
    locked_rows,
)
from tenants.credentials.rotate import retire_keys
from tenants.models import Action, Credential, User

# Devices whose overlaps end together lose their connections together, so only so many at a time.
ENDED_AT_ONCE = 50

OVERDUE = "the overlap of its rotation is over"


@transaction.atomic
def revoke_credential(credential: Credential, *, by: User | None, reason: str) -> None:
    """End the credential at once, and with a JWT every older one of the same key.

    A credential that has already ended keeps its date and reason.
    """
    wanted = Q(pk=credential.pk)
    if credential.kind == Credential.Kind.JWT:
        wanted |= Q(public_key=credential.public_key, issued_at__lte=credential.issued_at)
    rows = list(locked_rows(Credential.objects.filter(wanted, tenant=credential.tenant_id)))
    if any(row.pk == credential.pk and row.ended_at is None for row in rows):
        open_ones = [row for row in rows if row.ended_at is None]
        end_credentials(open_ones, by=by, reason=reason, action=Action.CREDENTIAL_REVOKED)


def revoke_device_credentials(
    tenant: UUID, device: UUID, nkey_public: str | None, *, by: User | None, reason: str
) -> None:
    """End every credential of the device, also a JWT that has no row."""
    with credential_lock(tenant, device):
        held = Credential.objects.filter(tenant=tenant, device_uuid=device, ended_at=None)
        rows = list(locked_rows(held))
        rows += create_placeholders(tenant, {device: nkey_public})
        end_credentials(rows, by=by, reason=reason, action=Action.CREDENTIAL_REVOKED)


def revoke_credentials_of(
    tenant: UUID, keys: Mapping[UUID, str | None], *, by: User | None, reason: str
) -> None:
    """End every credential of many devices of a tenant. `keys` has by device its public NKey."""
    with credential_lock(tenant):
        held = Credential.objects.filter(tenant=tenant, device_uuid__in=keys, ended_at=None)
        rows = list(locked_rows(held))
        rows += create_placeholders(tenant, keys)
        end_credentials(rows, by=by, reason=reason, action=Action.CREDENTIAL_REVOKED)


def end_due_credentials() -> int:
    """End the credentials and the signing keys whose overlap is over, a batch at a time.

    Return how many credentials ended. Several processes may do this at once.
    """
    with transaction.atomic():
        due = (
            Credential.objects.select_for_update(skip_locked=True)
            .filter(ended_at=None, ends_at__lte=timezone.now())
            .order_by("ends_at")[:ENDED_AT_ONCE]
        )
        rows = list(due)
        end_credentials(rows, by=None, reason=OVERDUE)
    retire_keys()
    return len(rows)
