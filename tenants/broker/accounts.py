"""Tenants' accounts at the broker, and the keys that it trusts."""

from collections.abc import Collection
from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from natsbridge.identity import nkeys, xkeys
from natsbridge.identity.nkeys import KeyPair
from natsbridge.postgres.wakeups import notify
from tenants.errors import NotProvisioned
from tenants.models import BrokerAccount, BrokerKey, Tenant
from tenants.rules import secrets

# Notified when a change of an account is pending.
ACCOUNTS_CHANNEL = "wegweiser_accounts"

Purpose = BrokerKey.Purpose

# The keys that sign a tenant's users.
SCOPED = (Purpose.DEVICE, Purpose.TENANT)

PLATFORM_KEYS = (
    Purpose.OPERATOR,
    Purpose.SYSTEM,
    Purpose.PLATFORM,
    Purpose.CALLOUT,
    Purpose.CALLOUT_USER,
    Purpose.CALLOUT_XKEY,
)


@transaction.atomic
def ensure_broker_account(tenant: Tenant) -> BrokerAccount:
    """Return the tenant's account; create it, its identity key or its scoped keys if missing."""
    identity = _ensure_broker_keys((Purpose.ACCOUNT, *SCOPED), tenant)[Purpose.ACCOUNT]
    account, created = BrokerAccount.objects.get_or_create(
        tenant=tenant, defaults={"public_key": identity.public_key}
    )
    if created:
        announce_account(tenant)
    return account


def ensure_broker_key(purpose: Purpose, tenant: Tenant | None = None) -> BrokerKey:
    return _ensure_broker_keys([purpose], tenant)[purpose]


@transaction.atomic
def _ensure_broker_keys(
    purposes: Collection[Purpose], tenant: Tenant | None = None
) -> dict[Purpose, BrokerKey]:
    """Return the current key of each purpose; create those that are missing."""
    current = BrokerKey.objects.filter(purpose__in=purposes, tenant=tenant, retires_at=None)
    keys = {Purpose(key.purpose): key for key in current}
    missing = [purpose for purpose in purposes if purpose not in keys]
    created = BrokerKey.objects.bulk_create(_new_key(purpose, tenant) for purpose in missing)
    return keys | dict(zip(missing, created, strict=True))


def _new_key(purpose: Purpose, tenant: Tenant | None) -> BrokerKey:
    pair = _new_pair(purpose)
    return BrokerKey(
        purpose=purpose,
        tenant=tenant,
        public_key=pair.public,
        seed_encrypted=secrets.encrypt(pair.seed, settings.FIELD_ENCRYPTION_KEYS),
    )


def key_pair(purpose: Purpose, tenant: UUID | None = None) -> KeyPair:
    key = BrokerKey.objects.filter(purpose=purpose, tenant=tenant, retires_at=None).first()
    if key is None:
        raise NotProvisioned(
            f"There is no {purpose.label.lower()} key yet: run `manage.py nats_config` for the "
            "platform's keys, `manage.py provision_tenant_creds` for a tenant's."
        )
    return KeyPair(public=key.public_key, seed=key.seed)


def _new_pair(purpose: Purpose) -> KeyPair:
    match purpose:
        case Purpose.CALLOUT_XKEY:
            return xkeys.generate()
        case Purpose.CALLOUT_USER:
            return nkeys.generate("user")
        case Purpose.OPERATOR:
            return nkeys.generate("operator")
    return nkeys.generate("account")


def ensure_platform_keys() -> dict[Purpose, BrokerKey]:
    """Return the keys of the operator, the platform's own accounts and the auth callout."""
    return _ensure_broker_keys(PLATFORM_KEYS)


def announce_account(tenant: Tenant) -> None:
    """Mark a change of the account as pending, and wake the subscribers after the commit."""
    BrokerAccount.objects.filter(tenant=tenant).update(wanted_at=timezone.now())
    notify(ACCOUNTS_CHANNEL, str(tenant.pk))


def record_provisioned(tenant: Tenant, as_of: datetime) -> None:
    """Record that the broker has what the rows said at `as_of`.

    Ignore a report older than the stored one.
    """
    on_time = Q(provisioned_at=None) | Q(provisioned_at__lt=as_of)
    account = BrokerAccount.objects.filter(on_time, tenant=tenant)
    account.update(provisioned_at=as_of, last_error="")


def record_provisioning_failed(tenant: Tenant, error: str) -> None:
    BrokerAccount.objects.filter(tenant=tenant).update(last_error=error)
