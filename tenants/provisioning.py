"""A tenant's account and stream at the broker: planned from rows, carried out over NATS.

Pushes of one account must not overtake each other, so whoever provisions a tenant holds that
tenant's advisory lock meanwhile.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import connection as database
from django.utils import timezone
from nats.aio.client import Client
from nats.errors import Error as NatsError

from natsbridge import accounts, claims, streams
from natsbridge.claims import KeyPair, TenantAccount
from natsbridge.connection import Connection, connect
from natsbridge.errors import BridgeError, BrokerUnavailable, ClaimsRefused, StreamRefused
from tenants import actions, broker
from tenants.ended_passwords import EndedPasswords, ended_passwords
from tenants.errors import TenantsError
from tenants.models import Tenant

# How long one tenant may wait for the broker, and for a login to its own account.
PATIENCE_SECONDS = 15.0
LOGIN_SECONDS = 3.0

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
    provisioner: broker.Login = field(repr=False)

    @property
    def suspended(self) -> bool:
        return self.account.limits.connections == 0

    @property
    def stream(self) -> streams.StreamDeclaration:
        room = broker.stream_bytes(self.account.limits.disk_storage)
        return streams.tenant_stream(self.account.tenant, max_bytes=room)

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
    with _one_at_a_time(tenant):
        made = plan(tenant)
        try:
            changes = asyncio.run(_with_own_connection(made, broker.system_login(), carry_out))
        except REFUSALS as error:
            record(made, error)
            raise
        record(made, None)
        return changes


def check(tenant: Tenant) -> list[str]:
    """How the broker differs from the rows, fit to be printed; empty when they agree. Changes
    nothing. Raises one of REFUSALS."""
    return asyncio.run(_with_own_connection(plan(tenant), broker.system_login(), differences))


def record(plan: Plan, error: Exception | None) -> None:
    if error is None:
        actions.record_provisioned(plan.tenant, plan.as_of)
    else:
        actions.record_provisioning_failed(plan.tenant, str(error) or type(error).__name__)


@contextmanager
def _one_at_a_time(tenant: Tenant) -> Iterator[None]:
    with database.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", [_lock(tenant)])
    try:
        yield
    finally:
        release(tenant)


def plan_alone(tenant: Tenant) -> Plan | None:
    """The plan, with the tenant's lock held until `release`; None while somebody else has it."""
    with database.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", [_lock(tenant)])
        if not cursor.fetchone()[0]:
            return None
    try:
        return plan(tenant)
    except REFUSALS as error:
        actions.record_provisioning_failed(tenant, str(error))
        release(tenant)
        raise


def release(tenant: Tenant) -> None:
    with database.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", [_lock(tenant)])


def _lock(tenant: Tenant) -> str:
    return f"provision {tenant.pk}"


def plan(tenant: Tenant) -> Plan:
    """Makes missing keys first."""
    actions.ensure_broker_account(tenant)
    as_of = timezone.now()
    return Plan(
        tenant,
        as_of,
        broker.tenant_account(tenant.pk),
        ended_passwords(tenant.pk),
        broker.key_pair(broker.Purpose.OPERATOR),
        broker.provisioner_login(tenant),
    )


async def _with_own_connection(plan: Plan, login: broker.Login, use: Use) -> list[str]:
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            async with connected(login, "wegweiser claims") as system:
                return await use(plan, system.client)
    except TimeoutError as error:
        raise BrokerUnavailable(
            f"nats-server at {settings.NATS_URL} did not answer within {PATIENCE_SECONDS:.0f} s"
        ) from error


def connected(login: broker.Login, name: str) -> AbstractAsyncContextManager[Connection]:
    return connect(
        settings.NATS_URL,
        user_jwt=lambda: login.jwt,
        seed=login.seed,
        name=name,
        ca_file=settings.NATS_CA_FILE,
    )


async def carry_out(plan: Plan, system: Client) -> list[str]:
    """What changed at the broker, fit to be printed; empty when all was as planned.

    What shuts somebody out comes first, and does not wait for what else may fail. Raises
    BrokerUnavailable, ClaimsRefused and StreamRefused with the server's words.
    """
    try:
        changes = await _kick(plan, system)
        found = (await accounts.streams(system, plan.account.public)).get(plan.stream.name)
    except BrokerUnavailable:
        # A server that hangs must not keep the others from shutting somebody out.
        await _push(plan, system, None)
        raise
    wanted = plan.account.limits.disk_storage
    # A stream that is to shrink keeps its room until it has.
    shrinks = found is not None and found["max_bytes"] > (plan.stream.config.max_bytes or 0)
    if not shrinks:
        changes += await _push(plan, system, wanted)
        return changes + await _ensure_stream(plan, found)
    changes += await _push(plan, system, None)
    changes += await _ensure_stream(plan, found)
    return changes + await _push(plan, system, wanted)


async def differences(plan: Plan, system: Client) -> list[str]:
    """How the broker differs from the plan."""
    account = plan.account
    present = await accounts.lookup(system, account.public)
    if present is None:
        return [f"claims: the server does not know the account {account.public}"]
    wanted = plan.claims(issued_at=0, disk_storage=account.limits.disk_storage)
    found = [f"claims: {text}" for text in _claims_differences(present, wanted)]
    configurations = await accounts.streams(system, account.public)
    found += streams.compare(configurations.get(plan.stream.name), plan.stream)
    for each in await _ended_connections(plan, system):
        found.append(f"credentials: connection {each.number} of {each.user} is open, but ended")
    return found


async def _push(plan: Plan, system: Client, disk_storage: int | None) -> list[str]:
    """`disk_storage` None: as much as the servers' claims say now."""
    public = plan.account.public
    present = await accounts.lookup(system, public)
    before = claims.decode(present) if present else None
    if disk_storage is None:
        limits = before["nats"]["limits"] if before else {}
        disk_storage = limits.get("disk_storage", plan.account.limits.disk_storage)
    # A server that was away takes the newest, to the second.
    issued_at = max(int(time.time()), before["iat"] + 1 if before else 0)
    jwt = plan.claims(issued_at=issued_at, disk_storage=disk_storage)
    if present and not _claims_differences(present, jwt):
        return []
    await accounts.push(system, jwt)
    return [f"account {public}: claims updated" if before else f"account {public} created"]


def _templates_differ(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Of a key in both: the server disconnects whoever it has signed."""
    one, other = (
        {each["key"]: each for each in said["nats"].get("signing_keys", [])}
        for said in (before, after)
    )
    return any(one[key] != other[key] for key in one.keys() & other.keys())


async def _ensure_stream(plan: Plan, found: dict[str, Any] | None) -> list[str]:
    if not streams.compare(found, plan.stream):
        return []
    if plan.suspended:
        raise StreamRefused("The tenant is suspended; its stream is seen to when it is resumed.")
    try:
        async with asyncio.timeout(LOGIN_SECONDS):
            async with connected(plan.provisioner, "wegweiser provisioning") as connection:
                return await streams.ensure(connection.client.jetstream(), plan.stream)
    except TimeoutError as error:
        raise StreamRefused(
            "The platform cannot get into the tenant's account to see to its stream: perhaps all "
            "the connections it may have are taken."
        ) from error


async def _kick(plan: Plan, system: Client) -> list[str]:
    """A password's connection has a key of its own, so no revocation ends it."""
    changes = []
    for each in await _ended_connections(plan, system):
        # One that has left by itself meanwhile is as good.
        with suppress(ClaimsRefused):
            await accounts.kick(system, each.server_id, each.number)
            changes.append(f"connection {each.number} ended")
    return changes


async def _ended_connections(plan: Plan, system: Client) -> list[accounts.ClientConnection]:
    if not plan.ended.by_user:
        return []
    connections = await accounts.connections(system, plan.account.public)
    return [each for each in connections if plan.ended.ends(each)]


def _claims_differences(present: str, wanted: str) -> list[str]:
    """In words a person can look up; of keys that were revoked only how many there are."""
    one, other = _parts(present), _parts(wanted)
    return [
        f"{name} {'are' if name.endswith('s') else 'is'} not as the database has it"
        for name in sorted(one.keys() | other.keys())
        if one.get(name) != other.get(name)
    ]


def _parts(jwt: str) -> dict[str, Any]:
    decoded = claims.decode(jwt)
    nats: dict[str, Any] = decoded.pop("nats")
    # The server's side may leave out what is empty.
    said = {name: value for name, value in nats.items() if value not in ({}, [])}
    return said | {name: decoded[name] for name in ("iss", "name") if name in decoded}
