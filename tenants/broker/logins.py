"""JWTs and logins for the broker, signed with the stored keys.

Nothing here writes; what is missing raises NotProvisioned.
"""

import time
from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from natsbridge.client.login import Login
from natsbridge.identity import claims, nkeys
from natsbridge.identity.jwt import credentials_file
from natsbridge.identity.nkeys import KeyPair
from natsbridge.identity.permissions import (
    CALLOUT_PERMISSIONS,
    INSPECTOR_PERMISSIONS,
    PROVISIONER_PERMISSIONS,
    SERVER_LIST_PERMISSIONS,
    SUBSCRIBER_PERMISSIONS,
    SYSTEM_PERMISSIONS,
    Permissions,
    recreating_permissions,
    replay_permissions,
)
from natsbridge.protocol.login_request import Authority
from tenants.broker.accounts import Purpose, key_pair
from tenants.models import BrokerAccount, BrokerKey, Tenant


@dataclass(frozen=True)
class UserSigner:
    """A scoped key of an account: the users it signs have the permissions of its scope."""

    account: str
    key: KeyPair


def device_jwt(
    tenant: UUID, device: UUID, nkey_public: str, *, issued_at: int, expires_at: int
) -> str:
    """Return a JWT for the holder of the device's private key.

    It is issued, and recorded, by `tenants.credentials.issue`.
    """
    return claims.device_user_jwt(
        key_pair(Purpose.DEVICE, tenant),
        account=_account_key(tenant),
        device=device,
        user_public=nkey_public,
        issued_at=issued_at,
        expires_at=expires_at,
    )


def tenant_credentials(tenant: Tenant, user: KeyPair, *, issued_at: int) -> str:
    """Return the text of a `.creds` file for the tenant's own `user`; it holds a secret.

    It is issued, and recorded, by `tenants.credentials.issue`.
    """
    jwt = claims.tenant_user_jwt(
        key_pair(Purpose.TENANT, tenant.pk),
        account=_account_key(tenant.pk),
        tenant=tenant.pk,
        user_public=user.public,
        issued_at=issued_at,
    )
    return credentials_file(jwt, user.seed)


def platform_login() -> Login:
    """Return the subscriber's login to the platform account."""
    return _login(Purpose.PLATFORM, None, "subscriber", SUBSCRIBER_PERMISSIONS)


def system_login() -> Login:
    """Return a login to the system account that may push claims."""
    return _login(Purpose.SYSTEM, None, "subscriber", SYSTEM_PERMISSIONS)


def provisioner_login(tenant: Tenant) -> Login:
    """Return a login to the tenant's account that may create and update its stream."""
    return _login(Purpose.ACCOUNT, tenant.pk, "provisioner", PROVISIONER_PERMISSIONS)


def replay_login(tenant: Tenant) -> Login:
    """Return a login to the tenant's account that may read its stream, and do nothing else."""
    return _login(Purpose.ACCOUNT, tenant.pk, "replay", replay_permissions(tenant.pk))


def inspector_login() -> Login:
    """Return a login to the platform account that may read the configurations of streams."""
    return _login(Purpose.PLATFORM, None, "inspector", INSPECTOR_PERMISSIONS)


def stream_maker_login() -> Login:
    """Return a login to the platform account that may create streams, but read no message."""
    return _login(Purpose.PLATFORM, None, "stream maker", PROVISIONER_PERMISSIONS)


def recreating_login(stream: str, consumer: str | None, tenant: UUID | None = None) -> Login:
    """Return a login that may delete and recreate this stream, or this consumer of it.

    It is a login to the tenant's account, or without a tenant to the platform's.
    """
    purpose = Purpose.PLATFORM if tenant is None else Purpose.ACCOUNT
    return _login(purpose, tenant, "recreating", recreating_permissions(stream, consumer))


def callout_authority() -> Authority:
    """Return the keys with which the auth callout signs and decrypts."""
    return Authority(key_pair(Purpose.CALLOUT), key_pair(Purpose.CALLOUT_XKEY))


def callout_login() -> Login:
    """Return the login of the auth callout: the one user about whom the servers do not ask it."""
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
    """Return the existing scoped keys of these tenants, by tenant and purpose."""
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
    """Return a login to the system account that may only list the servers."""
    return _login(Purpose.SYSTEM, None, "callout", SERVER_LIST_PERMISSIONS)


def _login(purpose: Purpose, tenant: UUID | None, name: str, permissions: Permissions) -> Login:
    user = nkeys.generate("user")
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
