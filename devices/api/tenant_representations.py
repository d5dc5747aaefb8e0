"""How a tenant and its credentials look to API clients. No secret is in any of it."""

from typing import Any

from devices.representations import epoch
from tenants.models import Credential, Tenant, User


def tenant(row: Tenant, limits: dict[str, Any]) -> dict[str, Any]:
    account = getattr(row, "broker_account", None)
    return {
        "success": True,
        "tenant_uuid": str(row.pk),
        "name": row.name,
        "suspended": row.suspended_at is not None,
        "suspended_at": epoch(row.suspended_at),
        "suspended_by": row.suspended_by_name or None,
        "suspended_reason": row.suspended_reason,
        "provisioning": {
            "state": account.state if account else "none",
            "waiting": account is None or account.waits,
            "provisioned_at": epoch(account.provisioned_at) if account else None,
            "error": account.last_error if account else "",
        },
        "limits": limits,
        "counts": {
            "devices": row.devices.count(),
            "revoked_devices": row.devices.exclude(revoked_at=None).count(),
            "groups": row.groups.count(),
            "members": row.memberships.count(),
            "live_credentials": 0
            if row.suspended_at
            else row.credentials.live().filter(device_uuid=None).count(),
        },
    }


def credential(row: Credential) -> dict[str, Any]:
    return {
        "id": row.pk,
        "kind": row.kind,
        "username": row.username,
        "state": row.state,
        "issued_at": epoch(row.issued_at),
        "issued_by": _name(row.issued_by),
        "first_used_at": epoch(row.first_used_at),
        "last_used_at": epoch(row.last_used_at),
        "expires_at": epoch(row.expires_at),
        "ends_at": epoch(row.ends_at),
        "ended_at": epoch(row.ended_at),
        "ended_by": row.ended_by_name or None,
        "end_reason": row.end_reason,
    }


def _name(person: User | None) -> str | None:
    return person.get_username() if person else None
