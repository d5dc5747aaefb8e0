"""What the rows say of a tenant's account at the broker: its keys, limits and revocations.

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

# Claims that have grown beyond the server's `max_payload` could not be pushed any more, and nobody
# of the tenant could be revoked. Each takes some 100 bytes of it.
MOST_REVOCATIONS = 5_000
# Of those that are shut out for a while; the others are disconnected whenever they flood.
MOST_SHUT_OUT = 500
# Between the clocks of those who make keys and issue JWTs.
CLOCKS_APART = timedelta(minutes=5)


def tenant_account(tenant: UUID) -> claims.TenantAccount:
    """All that the rows say of the tenant's account."""
    account = BrokerAccount.objects.select_related("tenant").get(tenant=tenant)
    limits = account_limits(account)
    revocations: dict[str, int] = {}
    if account.tenant.suspended_at:
        # Nobody is let in anyway, and however much is revoked, this has to get through.
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
    """The tenant's own, and where it has none those of the settings."""

    def own(value: int | None, default: int) -> int:
        return default if value is None else value

    return claims.AccountLimits(
        connections=own(account.max_connections, settings.TENANT_MAX_CONNECTIONS),
        subscriptions=own(account.max_subscriptions, settings.TENANT_MAX_SUBSCRIPTIONS),
        payload=own(account.max_payload_bytes, settings.TENANT_MAX_PAYLOAD_BYTES),
        disk_storage=own(account.storage_bytes, settings.TENANT_STORAGE_BYTES),
    )


def stream_bytes(storage: int) -> int:
    """How much of a tenant's storage its stream takes: the server reserves it, and wants room."""
    return (storage if storage > 0 else settings.TENANT_STORAGE_BYTES) * 3 // 4


def revocations_of(tenant: UUID) -> dict[str, int]:
    """For each user's key the newest of its JWTs that has ended; it and all before it are void."""
    newest = _voided(tenant).order_by().values_list("public_key").annotate(Max("issued_at"))
    found = {key: int(issued_at.timestamp()) for key, issued_at in newest}
    if len(found) > MOST_REVOCATIONS:
        # Of all users, the tenant's own among them: only when `actions.rotation.make_room` could
        # not help, as so much was revoked within minutes of a new key.
        found = {"*": max(found.values())}
    # Not among what "*" may stand for: these times are to come, and the others are not to blame.
    return found | _shut_out(tenant)


def _shut_out(tenant: UUID) -> dict[str, int]:
    """The users' keys of those that have sent too much. The server compares with a JWT's `iat`, so
    what they might have issued meanwhile is refused as well."""
    blocks = FloodBlock.objects.filter(tenant=tenant).in_force()[:MOST_SHUT_OUT]
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
    """Whether claims would have more revocations than there is room for, and a new signing key for
    the devices makes some."""
    of_devices = _voided(tenant).exclude(device_uuid=None)
    if of_devices.values("public_key").distinct().count() <= MOST_REVOCATIONS:
        return False
    long_ago = timezone.now() - 2 * CLOCKS_APART
    newest = BrokerKey.objects.filter(purpose=Purpose.DEVICE, tenant=tenant).order_by("-created_at")
    return newest.filter(created_at__gt=long_ago).first() is None


def _voided(tenant: UUID) -> QuerySet[Credential]:
    """JWTs that have ended and would open the broker all the same: by their own `exp`, and as the
    key that signed them is one of the account's."""
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
