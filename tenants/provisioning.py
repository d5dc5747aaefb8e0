"""A tenant's account and stream at the broker: planned from rows, carried out over NATS."""

import asyncio
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import structlog
from django.conf import settings
from nats.errors import Error as NatsError

from natsbridge import accounts, claims, streams
from natsbridge.connection import connect
from natsbridge.errors import BridgeError, BrokerUnavailable
from natsbridge.runtime import Runtime, Worker
from tenants import actions, broker
from tenants.models import BrokerAccount, Tenant

log = structlog.get_logger(__name__)

# How long one step may wait for the broker.
PATIENCE_SECONDS = 15.0
# A NOTIFY that was lost, and a tenant that could not be provisioned, are looked at again.
POLL_SECONDS = 15.0

# What can stop a tenant's provisioning for now; it is recorded and tried again.
REFUSALS = (BridgeError, NatsError, OSError)


@dataclass(frozen=True)
class Plan:
    """What the broker shall have for one tenant."""

    tenant: UUID
    account_jwt: str = field(repr=False)
    system: broker.Login = field(repr=False)
    provisioner: broker.Login = field(repr=False)


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
    async with connect(
        settings.NATS_URL,
        user_jwt=lambda: plan.system.jwt,
        seed=plan.system.seed,
        name="wegweiser claims",
    ) as system:
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
    async with connect(
        settings.NATS_URL,
        user_jwt=lambda: plan.provisioner.jwt,
        seed=plan.provisioner.seed,
        name="wegweiser provisioning",
    ) as connection:
        return await streams.ensure(
            connection.client.jetstream(), streams.tenant_stream(plan.tenant)
        )


def _meaning(decoded: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in decoded.items() if name not in ("iat", "jti")}


async def keep_provisioned(runtime: Runtime) -> None:
    """A side task: every account at the broker as the rows have it.

    All of them are looked at when the subscriber starts, afterwards those that are announced,
    and now and then those that are still not provisioned.
    """
    announced = runtime.wakeups.on(actions.ACCOUNTS_CHANNEL)
    worker = Worker("accounts")
    try:
        await _provision_each(runtime, worker, await worker.run(_all_tenants))
        while not runtime.stopping.is_set():
            await _provision_each(runtime, worker, await worker.run(_unprovisioned_tenants))
            await runtime.pause(POLL_SECONDS, wake=announced)
    finally:
        await worker.close()


async def _provision_each(runtime: Runtime, worker: Worker, tenants: list[Tenant]) -> None:
    for tenant in tenants:
        if runtime.stopping.is_set():
            return
        try:
            changes = await carry_out(await worker.run(plan, tenant))
        except REFUSALS as error:
            log.warning("tenant not provisioned", tenant=str(tenant.pk), error=str(error))
            await worker.run(actions.record_provisioning_failed, tenant, str(error))
        else:
            if changes:
                log.info("tenant provisioned", tenant=str(tenant.pk), changes=changes)
            await worker.run(actions.record_provisioned, tenant)


def _all_tenants() -> list[Tenant]:
    return list(Tenant.objects.all())


def _unprovisioned_tenants() -> list[Tenant]:
    waiting = BrokerAccount.objects.filter(provisioned_at=None).select_related("tenant")
    return [account.tenant for account in waiting]
