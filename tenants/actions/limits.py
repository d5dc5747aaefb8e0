"""A tenant's limits at the broker, and its number of devices.

nats-server 2.15 limits connections, subscriptions, the size of a message and storage for each
account, but not its rate of messages: what one device may send to the platform is bounded by the
stream INGEST, subject by subject.
"""

from typing import Any

from django.conf import settings
from django.db import transaction

from natsbridge.server.config import MAX_FILE_STORE
from tenants.audit.writer import record_action
from tenants.broker.accounts import announce_account
from tenants.errors import LimitRefused
from tenants.models import Action, BrokerAccount, Tenant, User

# By field: the setting that holds the default, and the largest value.
LIMITS = {
    "max_connections": ("TENANT_MAX_CONNECTIONS", 2**31 - 1),
    "max_subscriptions": ("TENANT_MAX_SUBSCRIPTIONS", 2**31 - 1),
    "max_payload_bytes": ("TENANT_MAX_PAYLOAD_BYTES", 2**31 - 1),
    "storage_bytes": ("TENANT_STORAGE_BYTES", MAX_FILE_STORE),
    "max_devices": ("TENANT_MAX_DEVICES", 2**31 - 1),
}
UNLIMITED = -1
# A smaller stream holds next to nothing.
LEAST_STORAGE = 1024**2


def tenant_limits(tenant: Tenant) -> dict[str, dict[str, int | None]]:
    """Return by name the value in force, the default, and the tenant's own value if it has one."""
    account = BrokerAccount.objects.filter(tenant=tenant).first()
    found = {}
    for name, (setting, _) in LIMITS.items():
        default, own = getattr(settings, setting), getattr(account, name, None)
        value = default if own is None else own
        found[name] = {"value": value, "default": default, "own": own}
    return found


@transaction.atomic
def set_limits(tenant: Tenant, *, by: User | None, **limits: int | None) -> None:
    """Set the named limits to a number, to -1 for no limit, or to None for the default.

    The broker is told at once, and ends connections above a lower limit. It refuses storage below
    what the tenant's stream holds and drops nothing; the account's `last_error` then has its
    message. Raises LimitRefused.
    """
    for name, value in limits.items():
        check_limit(name, value)
    account = BrokerAccount.objects.select_for_update().get(tenant=tenant)
    changed: dict[str, Any] = {}
    for name, value in limits.items():
        if getattr(account, name) != value:
            changed[name] = {"from": getattr(account, name), "to": value}
            setattr(account, name, value)
    if not changed:
        return
    account.save(update_fields=list(changed))
    announce_account(tenant)
    record_action(Action.TENANT_LIMITS, tenant=tenant.pk, by=by, target=tenant.name, detail=changed)


def check_limit(name: str, value: int | None) -> None:
    """Raise LimitRefused for a name or a value that `set_limits` does not accept."""
    if name not in LIMITS:
        raise LimitRefused(f'Unknown limit "{name}". Choose from: {", ".join(LIMITS)}.')
    if value is None or value == UNLIMITED:
        return
    _, highest = LIMITS[name]
    lowest = LEAST_STORAGE if name == "storage_bytes" else 1
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        raise LimitRefused(f"{name} must be from {lowest} to {highest}, or -1 for no limit.")
