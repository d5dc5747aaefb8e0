"""Sign the JWTs of the operator, of accounts and of users: they say who may do what at the broker.

The format is NATS JWT version 2 (`ed25519-nkey`). Times are epoch seconds that the caller passes.
Whatever becomes part of a subject is checked before it is signed.

A server that was down takes the claims of an account with the latest `iat` when it comes back, so
each change of an account needs a later `issued_at` than the one before.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from natsbridge.errors import InvalidClaims
from natsbridge.identity import claim_parts as parts
from natsbridge.identity.jwt import signed
from natsbridge.identity.nkeys import (
    KeyKind,
    KeyPair,
    is_public_key,
)
from natsbridge.identity.permissions import (
    Permissions,
    device_permissions,
    tenant_permissions,
)
from natsbridge.identity.usernames import tenant_username
from natsbridge.protocol.subjects import BROKER_EVENTS, COMMAND_EXPORT, INGEST_EXPORT

_ACCOUNT_TOKEN_POSITION = 2
_CLIENT_CONNECTIONS = ["STANDARD", "WEBSOCKET"]


@dataclass(frozen=True, slots=True)
class AccountLimits:
    """The limits of a tenant's account; -1 is unlimited, storage is in bytes.

    `connections=0` suspends the tenant. JetStream reserves storage rather than capping it: what
    all tenants may use must fit into the server's `max_file_store`.
    """

    connections: int = parts.UNLIMITED
    subscriptions: int = parts.UNLIMITED
    payload: int = parts.UNLIMITED
    disk_storage: int = 32 * 1024 * 1024
    streams: int = 1
    consumers: int = 10

    def claim(self) -> dict[str, Any]:
        return parts.limits(
            conn=self.connections,
            subs=self.subscriptions,
            payload=self.payload,
            exports=0,
            disk_storage=self.disk_storage,
            streams=self.streams,
            consumer=self.consumers,
            max_bytes_required=True,
        )


@dataclass(frozen=True, slots=True)
class TenantAccount:
    """The contents of the claims of a tenant's account.

    `device_key` and `tenant_key` are the public halves of the account's scoped signing keys. What
    a retiring key has signed stays valid. `revocations` maps a user's public key, or `*` for all
    users, to an epoch second: JWTs issued until then are void.
    """

    public: str
    tenant: UUID
    platform_account: str
    device_key: str
    tenant_key: str
    limits: AccountLimits = AccountLimits()
    revocations: Mapping[str, int] = field(default_factory=dict)
    retiring_device_keys: tuple[str, ...] = ()
    retiring_tenant_keys: tuple[str, ...] = ()


def operator_jwt(operator: KeyPair, *, system_account: str, issued_at: int) -> str:
    _require_key(system_account, "account")
    nats = {"type": "operator", "system_account": system_account}
    return signed(operator, operator.public, nats, name="wegweiser", issued_at=issued_at)


def system_account_jwt(operator: KeyPair, account_public: str, *, issued_at: int) -> str:
    """Sign the system account, from which the platform imports connects and disconnects.

    The server itself refuses JetStream in this account.
    """
    exports = [
        parts.exported(f"account-{event}", f"$SYS.ACCOUNT.*.{event.upper()}", "stream")
        for event in BROKER_EVENTS
    ]
    nats = parts.account(exports=exports, limits=parts.limits())
    return _account_jwt(operator, account_public, nats, name="SYS", issued_at=issued_at)


def platform_account_jwt(
    operator: KeyPair, account_public: str, *, system_account: str, issued_at: int
) -> str:
    """Sign the platform's account, whose two exports serve every tenant.

    The token position makes the server insist that the subject has the importing account's own
    key. The account imports the connects and disconnects of all accounts.
    """
    _require_key(system_account, "account")
    position = {"account_token_position": _ACCOUNT_TOKEN_POSITION}
    exports = [
        parts.exported("ingest", INGEST_EXPORT, "service") | position,
        parts.exported("command", COMMAND_EXPORT, "stream") | position,
    ]
    storage = dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), parts.UNLIMITED)
    imports = [
        {"account": system_account}
        | parts.imported(
            f"account-{event}",
            f"$SYS.ACCOUNT.*.{event.upper()}",
            f"broker.$1.{event}",
            kind="stream",
        )
        for event in BROKER_EVENTS
    ]
    nats = parts.account(imports=imports, exports=exports, limits=parts.limits(**storage))
    return _account_jwt(operator, account_public, nats, name="WEGWEISER", issued_at=issued_at)


def callout_account_jwt(
    operator: KeyPair, account_public: str, *, user_public: str, xkey: str, issued_at: int
) -> str:
    """Sign the account of the auth callout.

    The servers ask about every client that logs in with this account's bearer JWT, except the
    callout's own user, and admit it to any account whose key has signed the JWT in the answer.
    The questions are sealed for the public curve key `xkey`.
    """
    _require_key(user_public, "user")
    limits = parts.limits(disallow_bearer=False, exports=0, imports=0)
    nats = parts.account(limits=limits) | {
        "authorization": {"auth_users": [user_public], "allowed_accounts": ["*"], "xkey": xkey}
    }
    return _account_jwt(operator, account_public, nats, name="AUTH", issued_at=issued_at)


def tenant_account_jwt(operator: KeyPair, account: TenantAccount, *, issued_at: int) -> str:
    """Sign a tenant's account: what it shares with the platform, and what its users may do."""
    tenant = _identity(account.tenant)
    device_keys = (account.device_key, *account.retiring_device_keys)
    tenant_keys = (account.tenant_key, *account.retiring_tenant_keys)
    for key in (account.public, account.platform_account, *device_keys, *tenant_keys):
        _require_key(key, "account")
    tenant_space = f"tenant.{tenant}.>"
    shared = {"account": account.platform_account}
    imports = [
        shared | parts.imported("ingest", f"ingest.{account.public}.{tenant_space}", tenant_space),
        shared | parts.imported("metrics", f"ingest.{account.public}.demo.>", "demo.>"),
        shared
        | parts.imported(
            "command",
            f"command.{account.public}.*",
            f"tenant.{tenant}.device.$1.command",
            kind="stream",
        ),
    ]
    nats = parts.account(imports=imports, limits=account.limits.claim()) | {
        "signing_keys": [
            *(_scope(key, "device", device_permissions(account.tenant)) for key in device_keys),
            *(_scope(key, "tenant", tenant_permissions(account.tenant)) for key in tenant_keys),
        ],
        "revocations": dict(account.revocations),
    }
    name = tenant_username(tenant)
    return _account_jwt(operator, account.public, nats, name=name, issued_at=issued_at)


def device_user_jwt(
    device_key: KeyPair,
    *,
    account: str,
    device: UUID,
    user_public: str,
    issued_at: int,
    expires_at: int | None,
    tags: Iterable[str] = (),
) -> str:
    """Sign a device's user by its tenant's scoped key `device`, which has the permissions.

    The user's name becomes part of the subjects in these permissions, so it is the device's bare
    UUID: a user named `*` would be every device of the tenant.
    """
    return _scoped_user(
        device_key,
        account,
        _identity(device),
        user_public,
        issued_at,
        expires_at=expires_at,
        tags=tags,
    )


def tenant_user_jwt(
    tenant_key: KeyPair,
    *,
    account: str,
    tenant: UUID,
    user_public: str,
    issued_at: int,
    expires_at: int | None = None,
    tags: Iterable[str] = (),
) -> str:
    """Sign the user of a tenant's own credential by the tenant's scoped key `tenant`."""
    name = tenant_username(_identity(tenant))
    return _scoped_user(
        tenant_key, account, name, user_public, issued_at, expires_at=expires_at, tags=tags
    )


def account_user_jwt(
    account: KeyPair,
    *,
    name: str,
    user_public: str,
    issued_at: int,
    expires_at: int | None = None,
    permissions: Permissions | None = None,
) -> str:
    """Sign a user by its account's own key; without `permissions` it may do everything there."""
    _require_key(user_public, "user")
    nats: dict[str, Any] = {
        "type": "user",
        **(permissions or Permissions()).claim(),
        **dict.fromkeys(("subs", "data", "payload"), parts.UNLIMITED),
    }
    return signed(account, user_public, nats, name=name, issued_at=issued_at, expires_at=expires_at)


def _scope(key: str, role: str, permissions: Permissions) -> dict[str, Any]:
    template: dict[str, Any] = {
        **permissions.claim(),
        **dict.fromkeys(("subs", "data", "payload"), parts.UNLIMITED),
        "allowed_connection_types": _CLIENT_CONNECTIONS,
    }
    return {"kind": "user_scope", "key": key, "role": role, "template": template}


def _scoped_user(
    signing_key: KeyPair,
    account: str,
    name: str,
    user_public: str,
    issued_at: int,
    *,
    expires_at: int | None,
    tags: Iterable[str],
) -> str:
    """Sign a user without permissions of its own; the server refuses a scoped user that has any."""
    _require_key(account, "account")
    _require_key(user_public, "user")
    nats: dict[str, Any] = {"type": "user", "issuer_account": account, "pub": {}, "sub": {}}
    if tags:
        nats["tags"] = list(tags)
    return signed(
        signing_key, user_public, nats, name=name, issued_at=issued_at, expires_at=expires_at
    )


def _account_jwt(
    operator: KeyPair, public: str, nats: dict[str, Any], *, name: str, issued_at: int
) -> str:
    _require_key(public, "account")
    return signed(operator, public, nats, name=name, issued_at=issued_at)


def _require_key(text: str, kind: KeyKind) -> None:
    if not is_public_key(text, kind):
        # Without the text: it may be a seed in the wrong place.
        raise InvalidClaims(f"not the public key of {'an' if kind != 'user' else 'a'} {kind}")


def _identity(value: UUID) -> str:
    if not isinstance(value, UUID):
        raise InvalidClaims(f"{value!r} is not a UUID")
    return str(value)
