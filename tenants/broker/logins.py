"""The broker's view of the rows here: claims and credentials, signed with the stored keys.

Nothing here writes; what is missing raises NotProvisioned.
"""

import hmac
import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from django.conf import settings
from django.db.models import Max, Min, Q, QuerySet
from django.utils import timezone

from natsbridge.client.login import Login
from natsbridge.identity import claims
from natsbridge.identity.claims import KeyPair
from natsbridge.identity.permissions import (
    CALLOUT_PERMISSIONS,
    INSPECTOR_PERMISSIONS,
    SERVER_LIST_PERMISSIONS,
    recreating_permissions,
)
from natsbridge.protocol import login_request
from natsbridge.protocol.login_request import Authority
from natsbridge.server.config import ServerConfig
from tenants.errors import NotProvisioned
from tenants.models import BrokerAccount, BrokerKey, Credential, FloodBlock, Tenant

Purpose = BrokerKey.Purpose

# Claims that have grown beyond the server's `max_payload` could not be pushed any more, and nobody
# of the tenant could be revoked. Each takes some 100 bytes of it.
MOST_REVOCATIONS = 5_000
# Of those that are shut out for a while; the others are disconnected whenever they flood.
MOST_SHUT_OUT = 500
# Between the clocks of those who make keys and issue JWTs.
CLOCKS_APART = timedelta(minutes=5)


@dataclass(frozen=True)
class UserSigner:
    """A scoped key of an account: users it signs have the permissions that go with it."""

    account: str
    key: KeyPair


def key_pair(purpose: Purpose, tenant: UUID | None = None) -> KeyPair:
    key = BrokerKey.objects.filter(purpose=purpose, tenant=tenant, retires_at=None).first()
    if key is None:
        raise NotProvisioned(
            f"There is no {purpose.label.lower()} key yet: run `manage.py nats_config` for the "
            "platform's keys, `manage.py provision_tenant_creds` for a tenant's."
        )
    return KeyPair(public=key.public_key, seed=key.seed)


def tenant_account(tenant: UUID) -> claims.TenantAccount:
    """All that the rows say of the tenant's account."""
    account = BrokerAccount.objects.select_related("tenant").get(tenant=tenant)
    limits = account_limits(account)
    revocations: dict[str, int] = {}
    if account.tenant.suspended_at:
        # Nobody is let in anyway, and however much is revoked, this has to get through.
        limits = replace(limits, connections=0)
    else:
        revocations = _revocations(tenant)
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


def _revocations(tenant: UUID) -> dict[str, int]:
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


def is_crowded(tenant: UUID) -> bool:
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


def device_jwt(
    tenant: UUID, device: UUID, nkey_public: str, *, issued_at: int, expires_at: int
) -> str:
    """What lets the holder of the device's own private key log in. It is issued, and recorded, by
    `actions.credentials`."""
    return claims.device_user_jwt(
        key_pair(Purpose.DEVICE, tenant),
        account=_account_key(tenant),
        device=device,
        user_public=nkey_public,
        issued_at=issued_at,
        expires_at=expires_at,
    )


def tenant_credentials(tenant: Tenant, user: KeyPair, *, issued_at: int) -> str:
    """The `.creds` file of the tenant's own `user`; it holds a secret. It is issued, and recorded,
    by `actions.credentials`."""
    jwt = claims.tenant_user_jwt(
        key_pair(Purpose.TENANT, tenant.pk),
        account=_account_key(tenant.pk),
        tenant=tenant.pk,
        user_public=user.public,
        issued_at=issued_at,
    )
    return claims.credentials_file(jwt, user.seed)


def platform_login() -> Login:
    """For the subscriber, in the platform account."""
    return _login(Purpose.PLATFORM, None, "subscriber", claims.SUBSCRIBER_PERMISSIONS)


def system_login() -> Login:
    """For pushing claims, in the system account."""
    return _login(Purpose.SYSTEM, None, "subscriber", claims.SYSTEM_PERMISSIONS)


def provisioner_login(tenant: Tenant) -> Login:
    """For a moment's work on the tenant's stream, in the tenant's own account."""
    return _login(Purpose.ACCOUNT, tenant.pk, "provisioner", claims.PROVISIONER_PERMISSIONS)


def inspector_login() -> Login:
    """For comparing the platform's streams with what is declared."""
    return _login(Purpose.PLATFORM, None, "inspector", INSPECTOR_PERMISSIONS)


def stream_maker_login() -> Login:
    """For making the platform's streams, without a right to any message."""
    return _login(Purpose.PLATFORM, None, "stream maker", claims.PROVISIONER_PERMISSIONS)


def recreating_login(stream: str, consumer: str | None, tenant: UUID | None = None) -> Login:
    """For deleting this one stream, or this one consumer of it, and making it anew; in the
    tenant's account, or the platform's."""
    purpose = Purpose.PLATFORM if tenant is None else Purpose.ACCOUNT
    return _login(purpose, tenant, "recreating", recreating_permissions(stream, consumer))


def server_config(
    *, server_name: str, port: int, monitor_port: int, directory: Path
) -> ServerConfig:
    """One nats-server that trusts the stored operator; its data lives below `directory`."""
    operator = key_pair(Purpose.OPERATOR)
    system = key_pair(Purpose.SYSTEM).public
    now = _now()
    return ServerConfig(
        server_name=server_name,
        port=port,
        monitor_port=monitor_port,
        store_dir=directory / "jetstream",
        resolver_dir=directory / "accounts",
        operator_jwt=claims.operator_jwt(operator, system_account=system, issued_at=now),
        system_account=system,
        preload=platform_claims(),
        default_sentinel=login_request.sentinel_jwt(
            key_pair(Purpose.CALLOUT), user_public=claims.generate("user").public, issued_at=now
        ),
    )


def route_secret() -> str:
    """By which the servers of a cluster know each other; whoever has it can join and sees every
    account. It follows from the operator's key, so that each server's file has the same."""
    seed = key_pair(Purpose.OPERATOR).seed
    return hmac.digest(seed.encode(), b"routes of the cluster", "sha256").hex()


def platform_claims() -> dict[str, str]:
    """The JWTs of the platform's own accounts by the accounts' keys: what a server must have
    before anybody can push, and what is pushed to one that was set up by an earlier version."""
    operator, now = key_pair(Purpose.OPERATOR), _now()
    system = key_pair(Purpose.SYSTEM).public
    platform = key_pair(Purpose.PLATFORM).public
    callout = key_pair(Purpose.CALLOUT).public
    return {
        system: claims.system_account_jwt(operator, system, issued_at=now),
        platform: claims.platform_account_jwt(
            operator, platform, system_account=system, issued_at=now
        ),
        callout: claims.callout_account_jwt(
            operator,
            callout,
            user_public=key_pair(Purpose.CALLOUT_USER).public,
            xkey=key_pair(Purpose.CALLOUT_XKEY).public,
            issued_at=now,
        ),
    }


def callout_authority() -> Authority:
    """What the auth callout answers with."""
    return Authority(key_pair(Purpose.CALLOUT), key_pair(Purpose.CALLOUT_XKEY))


def callout_login() -> Login:
    """For the auth callout, as the one user of its account about whom the servers do not ask."""
    user = key_pair(Purpose.CALLOUT_USER)
    jwt = claims.account_user_jwt(
        key_pair(Purpose.CALLOUT),
        name="callout",
        user_public=user.public,
        issued_at=_now(),
        permissions=CALLOUT_PERMISSIONS,
    )
    return Login(jwt, user.seed)


def user_signers(tenants: Collection[UUID]) -> dict[tuple[UUID, Purpose], UserSigner]:
    """The scoped keys of these tenants, DEVICE and TENANT, as far as they have been made."""
    accounts = dict(
        BrokerAccount.objects.filter(tenant__in=tenants).values_list("tenant", "public_key")
    )
    keys = BrokerKey.objects.filter(
        purpose__in=(Purpose.DEVICE, Purpose.TENANT), tenant__in=accounts, retires_at=None
    )
    return {
        (tenant, Purpose(key.purpose)): UserSigner(
            accounts[tenant], KeyPair(public=key.public_key, seed=key.seed)
        )
        for key in keys
        if (tenant := key.tenant_id)
    }


def server_list_login() -> Login:
    """For asking which servers there are, in the system account."""
    return _login(Purpose.SYSTEM, None, "callout", SERVER_LIST_PERMISSIONS)


def _login(
    purpose: Purpose, tenant: UUID | None, name: str, permissions: claims.Permissions
) -> Login:
    user = claims.generate("user")
    jwt = claims.account_user_jwt(
        key_pair(purpose, tenant),
        name=name,
        user_public=user.public,
        issued_at=_now(),
        permissions=permissions,
    )
    return Login(jwt, user.seed)


def _account_key(tenant: UUID) -> str:
    return BrokerAccount.objects.values_list("public_key", flat=True).get(tenant=tenant)


def _now() -> int:
    return int(time.time())
