"""A tenant's account and stream at the broker: planned from rows, carried out over NATS.

Pushes of one account must not overtake each other, so whoever pushes a tenant's claims holds an
advisory lock meanwhile; its stream has another, since seeing to that can take long.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from django.conf import settings
from django.utils import timezone
from nats.aio.client import Client
from nats.errors import Error as NatsError

from natsbridge.client import system_account
from natsbridge.client.login import Login, connect_as
from natsbridge.errors import BridgeError, BrokerUnavailable, ClaimsRefused, StreamRefused
from natsbridge.identity import claims
from natsbridge.identity.claims import TenantAccount
from natsbridge.identity.jwt import decode_jwt
from natsbridge.identity.nkeys import KeyPair
from natsbridge.jetstream import declarations, streams
from natsbridge.postgres import locks
from natsbridge.postgres.locks import Lock
from tenants.broker.accounts import (
    Purpose,
    ensure_broker_account,
    key_pair,
    record_provisioned,
    record_provisioning_failed,
)
from tenants.broker.claims import stream_bytes, tenant_account
from tenants.broker.logins import provisioner_login, system_login
from tenants.broker.rules import claims_diff
from tenants.credentials.ended_passwords import EndedPasswords, ended_passwords
from tenants.credentials.rotate import make_room_for_revocations
from tenants.errors import TenantsError
from tenants.models import Tenant

# How long one tenant may wait for the broker, and for a login to its own account.
PATIENCE_SECONDS = 15.0
LOGIN_SECONDS = 3.0
KICKED_AT_ONCE = 50
# Around a message's body, counted generously.
_PROTOCOL_BYTES = 1024

# Among the changes when everybody of the tenant has to log in again.
RECONNECTING = "permissions changed, so its clients log in again"

# What can stop a tenant's provisioning for now; it is recorded and tried again.
REFUSALS = (BridgeError, NatsError, OSError, TenantsError)


@dataclass(frozen=True)
class Plan:
    """What the broker shall have for one tenant, as the rows said at `as_of`."""

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


Use = Callable[[Plan, Client], Awaitable[list[str]]]


def provision(tenant: Tenant) -> list[str]:
    """What changed at the broker, fit to be printed; empty when all was as it should be.

    Blocks until it is done, and records how it went. Raises one of REFUSALS.
    """
    system = system_login()
    with locks.held(Lock.CLAIMS, tenant.pk):
        made = plan(tenant)
        with _recorded(made):
            changes = asyncio.run(_with_own_connection(made, system, push_claims))
    with _recorded(made), locks.held(Lock.TENANT_STREAM, tenant.pk):
        changes += asyncio.run(_with_own_connection(made, system, ensure_stream))
    with locks.held(Lock.CLAIMS, tenant.pk):
        newer = plan(tenant)
        if newer.stream == made.stream:
            with _recorded(newer):
                changes += asyncio.run(_with_own_connection(newer, system, lower_storage))
    record(made, None)
    return changes


@contextmanager
def _recorded(plan: Plan) -> Iterator[None]:
    try:
        yield
    except REFUSALS as error:
        record(plan, error)
        raise


def check(tenant: Tenant) -> list[str]:
    """How the broker differs from the rows, fit to be printed; empty when they agree. Changes
    nothing. Raises one of REFUSALS."""
    return asyncio.run(_with_own_connection(plan(tenant), system_login(), differences))


def record(plan: Plan, error: Exception | None) -> None:
    if error is None:
        record_provisioned(plan.tenant, plan.as_of)
    else:
        record_provisioning_failed(plan.tenant, str(error) or type(error).__name__)


def plan_alone(tenant: Tenant) -> Plan | None:
    """The plan, with the lock of the tenant's claims held until `release`; None while somebody else
    has it."""
    if not locks.take(Lock.CLAIMS, tenant.pk):
        return None
    try:
        return plan(tenant)
    except REFUSALS as error:
        record_provisioning_failed(tenant, str(error))
        release(tenant)
        raise


def release(tenant: Tenant) -> None:
    locks.release(Lock.CLAIMS, tenant.pk)


def hold_stream(tenant: Tenant) -> bool:
    """Whether the lock of the tenant's stream is the caller's now, until `release_stream`."""
    return locks.take(Lock.TENANT_STREAM, tenant.pk)


def release_stream(tenant: Tenant) -> None:
    locks.release(Lock.TENANT_STREAM, tenant.pk)


def plan(tenant: Tenant) -> Plan:
    """Makes missing keys first, and room in the claims."""
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


async def _with_own_connection(plan: Plan, login: Login, use: Use) -> list[str]:
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            async with connect_as(login, "wegweiser claims") as system:
                return await use(plan, system.client)
    except TimeoutError as error:
        raise BrokerUnavailable(
            f"nats-server at {settings.NATS_URL} did not answer within {PATIENCE_SECONDS:.0f} s"
        ) from error


async def push_claims(plan: Plan, system: Client) -> list[str]:
    """The first step: what keeps people out, which waits for nothing else. What changed at the
    broker, fit to be printed. Raises BrokerUnavailable, and ClaimsRefused with the server's words.
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
    """The second step, which takes long when nobody gets into the tenant's account. Raises
    BrokerUnavailable, and StreamRefused with the server's words."""
    found = (await system_account.streams(system, plan.account.public)).get(plan.stream.name)
    return await _ensure_stream(plan, found)


async def lower_storage(plan: Plan, system: Client) -> list[str]:
    """The last step: a stream that was to shrink kept its room until it had."""
    return await _push(plan, system, lower=True)


async def differences(plan: Plan, system: Client) -> list[str]:
    """How the broker differs from the plan."""
    account = plan.account
    present = await system_account.lookup(system, account.public)
    if present is None:
        return [f"claims: the server does not know the account {account.public}"]
    wanted = plan.claims(issued_at=0, disk_storage=account.limits.disk_storage)
    found = [f"claims: {text}" for text in claims_diff.differences(present, wanted)]
    configurations = await system_account.streams(system, account.public)
    found += streams.compare(configurations.get(plan.stream.name), plan.stream)
    for each in await _ended_connections(plan, system):
        found.append(f"credentials: connection {each.number} of {each.user} is open, but ended")
    return found


async def _push(plan: Plan, system: Client, *, lower: bool) -> list[str]:
    """Storage gets less only if `lower`."""
    public, limits = plan.account.public, plan.account.limits
    present = await system_account.lookup(system, public)
    before = decode_jwt(present) if present else None
    storage = limits.disk_storage
    if before and not lower:
        storage = max(storage, before["nats"]["limits"].get("disk_storage", 0), key=_room)
    # A server that was away takes the newest, to the second.
    issued_at = max(int(time.time()), before["iat"] + 1 if before else 0)
    jwt = plan.claims(issued_at=issued_at, disk_storage=storage)
    if present and not claims_diff.differences(present, jwt):
        return []
    if len(jwt) > system.max_payload - _PROTOCOL_BYTES:
        raise ClaimsRefused(
            f"The claims of the account are {len(jwt):,} bytes, and the server takes messages of "
            f"{system.max_payload:,}: {len(plan.account.revocations):,} revocations stand in them, "
            "which new signing keys make unnecessary (provision_tenant_creds --rotate-keys "
            "--overlap 0, which disconnects everybody of the tenant)."
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
        raise StreamRefused("The tenant is suspended; its stream is seen to when it is resumed.")
    try:
        async with asyncio.timeout(LOGIN_SECONDS):
            async with connect_as(plan.provisioner, "wegweiser provisioning") as connection:
                return await streams.ensure(connection.client.jetstream(), plan.stream)
    except TimeoutError as error:
        raise StreamRefused(
            "The platform cannot get into the tenant's account to see to its stream: perhaps all "
            "the connections it may have are taken."
        ) from error


async def _kick(plan: Plan, system: Client) -> list[str]:
    """A password's connection has a key of its own, so no revocation ends it."""
    found = await _ended_connections(plan, system)
    changes: list[str] = []
    for number in range(0, len(found), KICKED_AT_ONCE):
        some = found[number : number + KICKED_AT_ONCE]
        changes += filter(None, await asyncio.gather(*(_end(each, system) for each in some)))
    return changes


async def _end(connection: system_account.ClientConnection, system: Client) -> str:
    # One that has left by itself meanwhile is as good.
    with suppress(ClaimsRefused):
        await system_account.kick(system, connection.server_id, connection.number)
        return f"connection {connection.number} ended"
    return ""


async def _ended_connections(plan: Plan, system: Client) -> list[system_account.ClientConnection]:
    if not plan.ended.by_user:
        return []
    connections = await system_account.connections(system, plan.account.public)
    return [each for each in connections if plan.ended.ends(each)]
