"""A tenant's account and stream at the broker: planned from rows, carried out over NATS.

Pushes of one account must not overtake each other, so whoever provisions a tenant holds that
tenant's advisory lock meanwhile.
"""

import asyncio
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection as database
from django.utils import timezone
from nats.errors import Error as NatsError

from natsbridge import accounts, claims, streams
from natsbridge.connection import Connection, connect
from natsbridge.errors import BridgeError, BrokerUnavailable
from tenants import actions, broker
from tenants.errors import TenantsError
from tenants.models import Tenant

# How long one tenant may wait for the broker.
PATIENCE_SECONDS = 15.0

# What can stop a tenant's provisioning for now; it is recorded and tried again.
REFUSALS = (BridgeError, NatsError, OSError, TenantsError)


@dataclass(frozen=True)
class Plan:
    """What the broker shall have for one tenant."""

    tenant: UUID
    account_jwt: str = field(repr=False)
    system: broker.Login = field(repr=False)
    provisioner: broker.Login = field(repr=False)


def provision(tenant: Tenant) -> list[str]:
    """What changed at the broker, fit to be printed; empty when all was as it should be.

    Blocks until it is done, and records how it went. Raises one of REFUSALS.
    """
    with _one_at_a_time(tenant):
        as_of = timezone.now()
        try:
            changes = asyncio.run(carry_out(plan(tenant)))
        except REFUSALS as error:
            actions.record_provisioning_failed(tenant, str(error))
            raise
        actions.record_provisioned(tenant, as_of)
        return changes


@contextmanager
def _one_at_a_time(tenant: Tenant) -> Iterator[None]:
    name = f"provision {tenant.pk}"
    with database.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", [name])
    try:
        yield
    finally:
        with database.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", [name])


def plan(tenant: Tenant) -> Plan:
    """Makes missing keys first."""
    actions.ensure_broker_account(tenant)
    return Plan(
        tenant.pk,
        broker.tenant_claims(tenant),
        broker.system_login(),
        broker.provisioner_login(tenant),
    )


async def carry_out(plan: Plan) -> list[str]:
    """What changed at the broker, fit to be printed; empty when all was as planned.

    Raises BrokerUnavailable when no server answers in PATIENCE_SECONDS, ClaimsRefused and
    StreamRefused with the server's words.
    """
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            changes = await _push_claims(plan)
            return changes + await _ensure_stream(plan)
    except TimeoutError as error:
        raise BrokerUnavailable(
            f"nats-server at {settings.NATS_URL} did not answer within {PATIENCE_SECONDS:.0f} s"
        ) from error


async def _push_claims(plan: Plan) -> list[str]:
    async with _connected(plan.system, "wegweiser claims") as system:
        wanted = claims.decode(plan.account_jwt)
        present = await accounts.lookup(system.client, wanted["sub"])
        if present is None:
            await accounts.push(system.client, plan.account_jwt)
            return [f"account {wanted['sub']} created"]
        if _meaning(claims.decode(present)) == _meaning(wanted):
            return []
        await accounts.push(system.client, plan.account_jwt)
        return [f"account {wanted['sub']}: claims updated"]


async def _ensure_stream(plan: Plan) -> list[str]:
    async with _connected(plan.provisioner, "wegweiser provisioning") as connection:
        return await streams.ensure(
            connection.client.jetstream(), streams.tenant_stream(plan.tenant)
        )


def _connected(login: broker.Login, name: str) -> AbstractAsyncContextManager[Connection]:
    return connect(settings.NATS_URL, user_jwt=lambda: login.jwt, seed=login.seed, name=name)


def _meaning(decoded: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in decoded.items() if name not in ("iat", "jti")}
