"""What the broker should have for one tenant, and the steps that bring it there."""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from django.utils import timezone
from nats.aio.client import Client

from natsbridge.client import system_account
from natsbridge.client.login import Login, connect_as
from natsbridge.errors import ClaimsRefused, StreamRefused
from natsbridge.identity import claims
from natsbridge.identity.claims import TenantAccount
from natsbridge.identity.jwt import decode_jwt
from natsbridge.identity.nkeys import KeyPair
from natsbridge.jetstream import declarations, streams
from tenants.broker.accounts import Purpose, ensure_broker_account, key_pair
from tenants.broker.claims import stream_bytes, tenant_account
from tenants.broker.logins import provisioner_login
from tenants.broker.rules import claims_diff
from tenants.credentials.ended_passwords import EndedPasswords, ended_passwords
from tenants.credentials.rotate import make_room_for_revocations
from tenants.models import Tenant

# How long a login to a tenant's own account may take.
LOGIN_SECONDS = 3.0
KICKED_AT_ONCE = 50
# What surrounds the body of a message, estimated generously.
_PROTOCOL_BYTES = 1024

# One of the changes, when all clients of the tenant have to log in again.
RECONNECTING = "permissions changed, so its clients log in again"


@dataclass(frozen=True)
class Plan:
    """What the broker should have for one tenant, as the rows said at `as_of`."""

    tenant: Tenant
    as_of: datetime
    account: TenantAccount
    ended: EndedPasswords
    operator: KeyPair = field(repr=False)
    provisioner: Login = field(repr=False)

    @property
    def suspended(self) -> bool:
        return self.account.limits.connections == 0

    @property
    def stream(self) -> declarations.StreamDeclaration:
        room = stream_bytes(self.account.limits.disk_storage)
        return declarations.tenant_stream(self.account.tenant, max_bytes=room)

    def claims(self, *, issued_at: int, disk_storage: int) -> str:
        limits = replace(self.account.limits, disk_storage=disk_storage)
        return claims.tenant_account_jwt(
            self.operator, replace(self.account, limits=limits), issued_at=issued_at
        )


def make_plan(tenant: Tenant) -> Plan:
    """Make the plan; first create missing keys, and make room in the claims."""
    ensure_broker_account(tenant)
    make_room_for_revocations(tenant)
    as_of = timezone.now()
    return Plan(
        tenant,
        as_of,
        tenant_account(tenant.pk),
        ended_passwords(tenant.pk),
        key_pair(Purpose.OPERATOR),
        provisioner_login(tenant),
    )


async def push_claims(plan: Plan, system: Client) -> list[str]:
    """Take the first step, which keeps people out and waits for nothing else.

    Return what changed at the broker, as lines to print. Raises BrokerUnavailable, and
    ClaimsRefused with the server's message.
    """
    done = await asyncio.gather(
        _push(plan, system, lower=False), _kick(plan, system), return_exceptions=True
    )
    changes: list[str] = []
    for each in done:
        if isinstance(each, BaseException):
            raise each
        changes += each
    return changes


async def ensure_stream(plan: Plan, system: Client) -> list[str]:
    """Take the second step, which takes long where the tenant's account refuses logins.

    Raises BrokerUnavailable, and StreamRefused with the server's message.
    """
    found = (await system_account.streams(system, plan.account.public)).get(plan.stream.name)
    return await _ensure_stream(plan, found)


async def lower_storage(plan: Plan, system: Client) -> list[str]:
    """Take the last step: reduce the storage, for which a stream had to shrink first."""
    return await _push(plan, system, lower=True)


async def differences(plan: Plan, system: Client) -> list[str]:
    """Return how the broker differs from the plan, as lines to print."""
    account = plan.account
    present = await system_account.lookup(system, account.public)
    if present is None:
        return [f"claims: the server does not know the account {account.public}"]
    wanted = plan.claims(issued_at=0, disk_storage=account.limits.disk_storage)
    found = [f"claims: {text}" for text in claims_diff.differences(present, wanted)]
    configurations = await system_account.streams(system, account.public)
    found += streams.compare(configurations.get(plan.stream.name), plan.stream)
    for each in await _ended_connections(plan, system):
        found.append(
            f"credentials: connection {each.number} of {each.user} is open, though its password "
            "has ended"
        )
    return found


async def _push(plan: Plan, system: Client, *, lower: bool) -> list[str]:
    """Push the claims unless the broker has them; with less storage only if `lower`."""
    public, limits = plan.account.public, plan.account.limits
    present = await system_account.lookup(system, public)
    before = decode_jwt(present) if present else None
    storage = limits.disk_storage
    if before and not lower:
        storage = max(storage, before["nats"]["limits"].get("disk_storage", 0), key=_room)
    # A server that was away takes the claims with the newest `iat`, in seconds.
    issued_at = max(int(time.time()), before["iat"] + 1 if before else 0)
    jwt = plan.claims(issued_at=issued_at, disk_storage=storage)
    if present and not claims_diff.differences(present, jwt):
        return []
    if len(jwt) > system.max_payload - _PROTOCOL_BYTES:
        raise ClaimsRefused(
            f"The claims of the account are {len(jwt):,} bytes, and the server takes messages of "
            f"{system.max_payload:,}: they hold {len(plan.account.revocations):,} revocations, "
            "which new signing keys make unnecessary (provision_tenant_creds --rotate-keys "
            "--overlap 0, which disconnects all clients of the tenant)."
        )
    await system_account.push(system, jwt)
    if before is None:
        return [f"account {public} created"]
    again = [RECONNECTING] if claims_diff.templates_differ(before, decode_jwt(jwt)) else []
    return [f"account {public}: claims updated", *again]


def _room(disk_storage: int) -> float:
    return float("inf") if disk_storage < 0 else disk_storage


async def _ensure_stream(plan: Plan, found: dict[str, Any] | None) -> list[str]:
    if not streams.compare(found, plan.stream):
        return []
    if plan.suspended:
        raise StreamRefused(
            "The tenant is suspended. Its stream is brought up to date when it is resumed."
        )
    try:
        async with asyncio.timeout(LOGIN_SECONDS):
            async with connect_as(plan.provisioner, "wegweiser provisioning") as connection:
                return await streams.ensure(connection.client.jetstream(), plan.stream)
    except TimeoutError as error:
        raise StreamRefused(
            "The platform cannot log in to the tenant's account to update its stream: perhaps all "
            "its connections are in use."
        ) from error


async def _kick(plan: Plan, system: Client) -> list[str]:
    """End the connections of ended passwords, which no revocation ends."""
    found = await _ended_connections(plan, system)
    changes: list[str] = []
    for number in range(0, len(found), KICKED_AT_ONCE):
        some = found[number : number + KICKED_AT_ONCE]
        changes += filter(
            None, await asyncio.gather(*(_end_connection(each, system) for each in some))
        )
    return changes


async def _end_connection(connection: system_account.ClientConnection, system: Client) -> str:
    # It may have gone by itself meanwhile.
    with suppress(ClaimsRefused):
        await system_account.kick(system, connection.server_id, connection.number)
        return f"connection {connection.number} ended"
    return ""


async def _ended_connections(plan: Plan, system: Client) -> list[system_account.ClientConnection]:
    if not plan.ended.by_user:
        return []
    connections = await system_account.connections(system, plan.account.public)
    return [each for each in connections if plan.ended.ends(each)]
