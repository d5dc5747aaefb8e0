"""Bring a tenant's account and stream at the broker to what the rows say.

A plan is made from the rows and carried out over NATS, in the same steps by the subscriber and by
the commands. Two pushes of one account must not overtake each other, so its claims are pushed under
an advisory lock. Its stream has a lock of its own, since that step can take long.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import ParamSpec, Protocol, TypeVar

from asgiref.sync import async_to_sync, sync_to_async
from django.conf import settings
from nats.aio.client import Client
from nats.errors import Error as NatsError

from natsbridge.client.connection import Connection
from natsbridge.client.login import Login, connect_as
from natsbridge.errors import BridgeError, BrokerUnavailable
from natsbridge.postgres import locks
from natsbridge.postgres.locks import Lock
from tenants.broker.accounts import record_provisioned, record_provisioning_failed
from tenants.broker.logins import system_login
from tenants.broker.plans import (
    Plan,
    differences,
    ensure_stream,
    lower_storage,
    make_plan,
    push_claims,
)
from tenants.errors import TenantsError
from tenants.models import Tenant

P = ParamSpec("P")
R = TypeVar("R")

# How long one step for a tenant may take.
PATIENCE_SECONDS = 15.0
# The errors that stop a tenant's provisioning; they are recorded, and it is tried again.
REFUSALS = (BridgeError, NatsError, OSError, TenantsError)


Step = Callable[[Plan, Client], Awaitable[list[str]]]


class Database(Protocol):
    """Runs the synchronous half, always on the same connection, since locks belong to that."""

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R: ...


class CallersDatabase:
    """Runs it in the thread that has called `async_to_sync`."""

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        result: R = await sync_to_async(function)(*args, **kwargs)
        return result


class Provisioner:
    """Takes the steps for one tenant after the other, over a connection to the system account.

    With `wait` it waits while another process provisions the same tenant; without, it leaves the
    tenant to that process. The account records how it went. A step raises one of REFUSALS.
    """

    def __init__(self, system: Connection, database: Database, *, wait: bool) -> None:
        self._system = system
        self._database = database
        self._wait = wait

    async def push(self, tenant: Tenant) -> tuple[Plan, list[str]] | None:
        """Push the claims, and return the plan and what changed.

        Return None while another process pushes them.
        """
        if not await self._lock(Lock.CLAIMS, tenant):
            return None
        try:
            made = await self._plan(tenant)
            return made, await self._take(push_claims, made)
        finally:
            await self._unlock(Lock.CLAIMS, tenant)

    async def finish(self, made: Plan) -> list[str] | None:
        """Update the stream after a push, and return what changed.

        Return None while another process does so.
        """
        tenant = made.tenant
        if not await self._lock(Lock.TENANT_STREAM, tenant):
            return None
        try:
            changes = await self._take(ensure_stream, made)
        finally:
            await self._unlock(Lock.TENANT_STREAM, tenant)
        if not await self._lock(Lock.CLAIMS, tenant):
            return None
        try:
            newer = await self._plan(tenant)
            if newer.stream == made.stream:
                changes += await self._take(lower_storage, newer)
        finally:
            await self._unlock(Lock.CLAIMS, tenant)
        await self._database.run(record_provisioned, tenant, made.as_of)
        return changes

    async def _plan(self, tenant: Tenant) -> Plan:
        try:
            return await self._database.run(make_plan, tenant)
        except REFUSALS as error:
            await self._record_failed(tenant, error)
            raise

    async def _take(self, step: Step, plan: Plan) -> list[str]:
        try:
            async with _in_time():
                return await step(plan, self._system.client)
        except REFUSALS as error:
            await self._record_failed(plan.tenant, error)
            raise

    async def _record_failed(self, tenant: Tenant, error: Exception) -> None:
        reason = str(error) or type(error).__name__
        await self._database.run(record_provisioning_failed, tenant, reason)

    async def _lock(self, lock: Lock, tenant: Tenant) -> bool:
        if not self._wait:
            return await self._database.run(locks.take, lock, tenant.pk)
        await self._database.run(locks.wait_for, lock, tenant.pk)
        return True

    async def _unlock(self, lock: Lock, tenant: Tenant) -> None:
        await self._database.run(locks.release, lock, tenant.pk)


def provision(tenant: Tenant) -> list[str]:
    """Provision the tenant now and return what changed at the broker, as lines to print.

    Wait until it is done. Raises one of REFUSALS, which the account records.
    """
    try:
        return async_to_sync(_provision)(tenant, system_login())
    except BrokerUnavailable as error:
        record_provisioning_failed(tenant, str(error))
        raise


async def _provision(tenant: Tenant, login: Login) -> list[str]:
    async with _connected(login) as system:
        provisioner = Provisioner(system, CallersDatabase(), wait=True)
        pushed = await provisioner.push(tenant)
        if pushed is None:
            return []
        made, changes = pushed
        return changes + (await provisioner.finish(made) or [])


def check(tenant: Tenant) -> list[str]:
    """Return how the broker differs from the rows, as lines to print. Raises one of REFUSALS."""
    made, login = make_plan(tenant), system_login()

    async def compare() -> list[str]:
        async with _connected(login) as system, _in_time():
            return await differences(made, system.client)

    return asyncio.run(compare())


@asynccontextmanager
async def _connected(login: Login) -> AsyncIterator[Connection]:
    async with AsyncExitStack() as stack:
        async with _in_time():
            system = await stack.enter_async_context(connect_as(login, "wegweiser claims"))
        yield system


@asynccontextmanager
async def _in_time() -> AsyncIterator[None]:
    """Raise BrokerUnavailable when the block takes longer than PATIENCE_SECONDS."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            yield
    except TimeoutError as error:
        raise BrokerUnavailable(
            f"nats-server at {settings.NATS_URL} did not answer within {PATIENCE_SECONDS:.0f} s"
        ) from error
