"""Read a tenant's claims from the rows: its keys, limits and revocations.

Nothing here writes; what is missing raises NotProvisioned.
"""

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db.models import Max, Min, Q, QuerySet
from django.utils import timezone

from natsbridge.identity import claims
from tenants.broker.accounts import Purpose, key_pair
from tenants.models import BrokerAccount, BrokerKey, Credential, FloodBlock

# Claims that outgrow the server's `max_payload` cannot be pushed, and then nobody of the tenant can
# be revoked. Each revocation takes some 100 bytes.
MOST_REVOCATIONS = 5_000
# Flooders beyond this number are not blocked, but are disconnected whenever they flood.
MOST_BLOCKED = 500
# How far apart the clocks of processes may be that create keys and issue JWTs.
CLOCKS_APART = timedelta(minutes=5)


def tenant_account(tenant: UUID) -> claims.TenantAccount:
    """Return what the claims of the tenant's account should say."""
    account = BrokerAccount.objects.select_related("tenant").get(tenant=tenant)
    limits = account_limits(account)
    revocations: dict[str, int] = {}
    if account.tenant.suspended_at:
        # No login is allowed anyway, and this push has to succeed however much is revoked.
        limits = replace(limits, connections=0)
    else:
        revocations = revocations_of(tenant)
    return claims.TenantAccount(
        public=key_pair(Purpose.ACCOUNT, tenant).public,
        tenant=tenant,
        platform_account=key_pair(Purpose.PLATFORM).public,
        device_key=key_pair(Purpose.DEVICE, tenant).public,
        tenant_key=key_pair(Purpose.TENANT, tenant).public,
        limits=limits,
        revocations=revocations,
        retiring_device_keys=_retiring(Purpose.DEVICE, tenant),
        retiring_tenant_keys=_retiring(Purpose.TENANT, tenant),
    )


def account_limits(account: BrokerAccount) -> claims.AccountLimits:
    """Return the tenant's own limits, and those of the settings where it has none."""

    def own(value: int | None, default: int) -> int:
        return default if value is None else value

    return claims.AccountLimits(
        connections=own(account.max_connections, settings.TENANT_MAX_CONNECTIONS),
        subscriptions=own(account.max_subscriptions, settings.TENANT_MAX_SUBSCRIPTIONS),
        payload=own(account.max_payload_bytes, settings.TENANT_MAX_PAYLOAD_BYTES),
        disk_storage=own(account.storage_bytes, settings.TENANT_STORAGE_BYTES),
    )


def stream_bytes(storage: int) -> int:
    """Return the size of a tenant's stream: less than its storage, since the server needs room."""
    return (storage if storage > 0 else settings.TENANT_STORAGE_BYTES) * 3 // 4


def revocations_of(tenant: UUID) -> dict[str, int]:
    """Return for each public key the `iat` up to which its JWTs are revoked."""
    newest = _voided(tenant).order_by().values_list("public_key").annotate(Max("issued_at"))
    found = {key: int(issued_at.timestamp()) for key, issued_at in newest}
    if len(found) > MOST_REVOCATIONS:
        # All users, also of the tenant's own credential. This happens only where a new signing key
        # did not help, since so much was revoked within minutes of it.
        found = {"*": max(found.values())}
    # Not part of "*": these moments are in the future, and would block all others until then.
    return found | _blocked(tenant)


def _blocked(tenant: UUID) -> dict[str, int]:
    """Return the public keys of blocked flooders, with the end of each block.

    The server compares that moment with the `iat` of a JWT, so newer JWTs are refused too.
    """
    blocks = FloodBlock.objects.filter(tenant=tenant).in_force()[:MOST_BLOCKED]
    until = {block.device_uuid: int(block.until.timestamp()) for block in blocks if block.until}
    devices = [device for device in until if device]
    jwts = Credential.objects.filter(tenant=tenant, kind=Credential.Kind.JWT, ended_at=None)
    of_devices = jwts.filter(device_uuid__in=devices).values_list("public_key", "device_uuid")
    found = {key: until[device] for key, device in of_devices}
    return found | {
        block.public_key: int(block.until.timestamp())
        for block in blocks
        if block.public_key and block.until
    }


def has_too_many_revocations(tenant: UUID) -> bool:
    """Return whether the claims lack room for the revocations, and a new signing key would help."""
    of_devices = _voided(tenant).exclude(device_uuid=None)
    if of_devices.values("public_key").distinct().count() <= MOST_REVOCATIONS:
        return False
    long_ago = timezone.now() - 2 * CLOCKS_APART
    newest = BrokerKey.objects.filter(purpose=Purpose.DEVICE, tenant=tenant).order_by("-created_at")
    return newest.filter(created_at__gt=long_ago).first() is None


def _voided(tenant: UUID) -> QuerySet[Credential]:
    """Return the ended JWTs that would still be valid without a revocation.

    They have not expired, and one of the account's keys has signed them.
    """
    now = timezone.now()
    keys = BrokerKey.objects.filter(Q(retires_at=None) | Q(retires_at__gt=now), tenant=tenant)
    signed = Q(pk__in=())
    for purpose, of_devices in ((Purpose.DEVICE, True), (Purpose.TENANT, False)):
        oldest = keys.filter(purpose=purpose).aggregate(at=Min("created_at"))["at"]
        if oldest:
            since = oldest - CLOCKS_APART
            signed |= Q(device_uuid__isnull=not of_devices, issued_at__gte=since)
    return Credential.objects.filter(
        Q(expires_at=None) | Q(expires_at__gt=now),
        signed,
        tenant=tenant,
        kind=Credential.Kind.JWT,
        ended_at__isnull=False,
    )


def _retiring(purpose: Purpose, tenant: UUID) -> tuple[str, ...]:
    keys = BrokerKey.objects.filter(
        purpose=purpose, tenant=tenant, retires_at__gt=timezone.now()
    ).order_by("pk")
    return tuple(keys.values_list("public_key", flat=True))
