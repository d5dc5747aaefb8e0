"""The broker's view of the rows here: claims and credentials, signed with the stored keys.

Nothing here writes; what is missing raises NotProvisioned.
"""

import time
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from django.conf import settings

from natsbridge import claims
from natsbridge.claims import KeyPair
from natsbridge.server_config import ServerConfig
from tenants.errors import NotProvisioned
from tenants.models import BrokerAccount, BrokerKey, Tenant

Purpose = BrokerKey.Purpose


@dataclass(frozen=True)
class Login:
    """What a NATS client needs; `seed` is secret."""

    jwt: str = field(repr=False)
    seed: str = field(repr=False)


def key_pair(purpose: Purpose, tenant: UUID | None = None) -> KeyPair:
    key = BrokerKey.objects.filter(purpose=purpose, tenant=tenant, retires_at=None).first()
    if key is None:
        raise NotProvisioned(
            f"There is no {purpose.label.lower()} key yet: run `manage.py nats_config` for the "
            "platform's keys, `manage.py provision_tenant_creds` for a tenant's."
        )
    return KeyPair(public=key.public_key, seed=key.seed)


def tenant_claims(tenant: Tenant) -> str:
    """The JWT of the tenant's account, to be pushed to the broker."""
    account = claims.TenantAccount(
        public=key_pair(Purpose.ACCOUNT, tenant.pk).public,
        tenant=tenant.pk,
        platform_account=key_pair(Purpose.PLATFORM).public,
        device_key=key_pair(Purpose.DEVICE, tenant.pk).public,
        tenant_key=key_pair(Purpose.TENANT, tenant.pk).public,
    )
    return claims.tenant_account_jwt(key_pair(Purpose.OPERATOR), account, issued_at=_now())


def device_jwt(tenant: UUID, device: UUID, nkey_public: str) -> str:
    """What lets the holder of the device's own private key log in, for DEVICE_JWT_SECONDS."""
    now = _now()
    return claims.device_user_jwt(
        key_pair(Purpose.DEVICE, tenant),
        account=_account_key(tenant),
        device=device,
        user_public=nkey_public,
        issued_at=now,
        expires_at=now + settings.DEVICE_JWT_SECONDS,
    )


def tenant_credentials(tenant: Tenant) -> str:
    """A new `.creds` file of the tenant's credential; it holds a secret."""
    user = claims.generate("user")
    jwt = claims.tenant_user_jwt(
        key_pair(Purpose.TENANT, tenant.pk),
        account=_account_key(tenant.pk),
        tenant=tenant.pk,
        user_public=user.public,
        issued_at=_now(),
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


def server_config(
    *, server_name: str, port: int, monitor_port: int, directory: Path
) -> ServerConfig:
    """One nats-server that trusts the stored operator; its data lives below `directory`."""
    operator = key_pair(Purpose.OPERATOR)
    system = key_pair(Purpose.SYSTEM).public
    platform = key_pair(Purpose.PLATFORM).public
    now = _now()
    return ServerConfig(
        server_name=server_name,
        port=port,
        monitor_port=monitor_port,
        store_dir=directory / "jetstream",
        resolver_dir=directory / "accounts",
        operator_jwt=claims.operator_jwt(operator, system_account=system, issued_at=now),
        system_account=system,
        preload={
            system: claims.system_account_jwt(operator, system, issued_at=now),
            platform: claims.platform_account_jwt(operator, platform, issued_at=now),
        },
    )


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
