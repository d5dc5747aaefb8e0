"""The side task that keeps every account at the broker as the rows have it."""

import asyncio
import time
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from django.db.models import Exists, F, OuterRef, Q
from django.utils import timezone
from nats.aio.client import Client

from natsbridge.connection import Connection
from natsbridge.errors import BrokerUnavailable
from natsbridge.runtime import Runtime, Worker
from tenants import actions, broker, provisioning
from tenants.actions import credentials
from tenants.models import BrokerAccount, Credential, Tenant

log = structlog.get_logger(__name__)

# A NOTIFY that was lost, and a tenant that could not be provisioned, are looked at again.
POLL_SECONDS = 15.0
# All tenants are looked at when the connection is new, since the server may have lost what it
# had, and this often in any case.
REVIEW_SECONDS = 600.0
# Overlaps end this often, some devices at a time.
ENDING_SECONDS = 1.0
# Somebody else is at it, with rows that may be older.
BUSY_SECONDS = 0.2
# After a change, such as a new version's, that makes everybody of a tenant log in again: between
# one tenant and the next, unless somebody is to be shut out.
RECONNECTING_SECONDS = 1.0
# Longer than a poll, so that there is one after the login.
LOGIN_UNDER_WAY = timedelta(seconds=2 * POLL_SECONDS)


async def keep_provisioned(runtime: Runtime) -> None:
    """Until stopping."""
    async with AsyncExitStack() as stack:
        worker = Worker("accounts")
        stack.push_async_callback(worker.close)
        login = await worker.run(broker.system_login)
        opening = asyncio.ensure_future(
            stack.enter_async_context(provisioning.connected(login, "wegweiser claims"))
        )
        while not opening.done() and not runtime.stopping.is_set():
            await asyncio.wait([opening], timeout=0.5)
        if opening.done():
            await _Keeper(runtime, worker, opening.result()).run()
        else:
            opening.cancel()
            await asyncio.gather(opening, return_exceptions=True)


class _Keeper:
    """One tenant after the other; before each it looks whose change is the newest, so that who
    is revoked does not wait for hundreds who are only reviewed."""

    def __init__(self, runtime: Runtime, worker: Worker, system: Connection) -> None:
        self._runtime = runtime
        self._worker = worker
        self._system = system
        self._announced = runtime.wakeups.on(actions.ACCOUNTS_CHANNEL)
        # What was tried since the last poll and failed, with what it then wanted.
        self._tried: dict[UUID, datetime] = {}
        self._to_review: list[Tenant] = []
        self._reviewed: tuple[Client | None, float] = (None, 0.0)
        self._next_poll = 0.0
        self._next_ending = 0.0

    async def run(self) -> None:
        while not self._runtime.stopping.is_set():
            await self._look_around()
            tenant = await self._next()
            if tenant is None:
                pause = min(self._next_poll, self._next_ending) - time.monotonic()
                await self._runtime.pause(max(pause, 0), wake=self._announced)
            else:
                await self._provision(tenant)

    async def _look_around(self) -> None:
        now = time.monotonic()
        if now >= self._next_poll:
            self._next_poll = now + POLL_SECONDS
            self._tried.clear()
        if now >= self._next_ending:
            self._next_ending = now + ENDING_SECONDS
            await self._worker.run(credentials.end_due)
        client = self._system.client
        if client is not self._reviewed[0] or now - self._reviewed[1] > REVIEW_SECONDS:
            self._reviewed = (client, now)
            self._tried.clear()
            self._to_review = await self._worker.run(_all_tenants)

    async def _next(self) -> Tenant | None:
        if not self._system.is_connected:
            return None
        waiting = await self._worker.run(_newest_waiting, self._tried)
        if waiting is not None:
            self._tried[waiting.pk] = waiting.wanted_at
            return waiting.tenant
        return self._to_review.pop() if self._to_review else None

    async def _provision(self, tenant: Tenant) -> None:
        """One that is refused holds up no other."""
        try:
            plan = await self._worker.run(provisioning.plan_alone, tenant)
            if plan is None:
                self._tried.pop(tenant.pk, None)
                await self._runtime.pause(BUSY_SECONDS)
                return
            try:
                changes = await self._carry_out(plan)
            finally:
                await self._worker.run(provisioning.release, tenant)
        except provisioning.REFUSALS as error:
            log.warning("tenant not provisioned", tenant=str(tenant.pk), error=str(error))
        else:
            if changes:
                log.info("tenant provisioned", tenant=str(tenant.pk), changes=changes)
            if provisioning.RECONNECTING in changes:
                await self._runtime.pause(RECONNECTING_SECONDS, wake=self._announced)

    async def _carry_out(self, plan: provisioning.Plan) -> list[str]:
        try:
            async with asyncio.timeout(provisioning.PATIENCE_SECONDS):
                changes = await provisioning.carry_out(plan, self._system.client)
        except provisioning.REFUSALS as error:
            await self._worker.run(provisioning.record, plan, error)
            raise
        except TimeoutError as error:
            away = BrokerUnavailable("nats-server did not answer in time")
            await self._worker.run(provisioning.record, plan, away)
            raise away from error
        await self._worker.run(provisioning.record, plan, None)
        return changes


def _all_tenants() -> list[Tenant]:
    return list(Tenant.objects.all())


def _newest_waiting(tried: dict[UUID, datetime]) -> BrokerAccount | None:
    """The account whose rows changed last, of those that are not at the broker as they are."""
    # Who was being let in while his password ended was not connected yet when that was pushed.
    just_ended = Credential.objects.filter(
        tenant=OuterRef("pk"),
        kind=Credential.Kind.PASSWORD,
        ended_at__gte=timezone.now() - LOGIN_UNDER_WAY,
    )
    waiting = BrokerAccount.objects.filter(
        Q(provisioned_at=None)
        | Q(provisioned_at__lt=F("wanted_at"))
        | ~Q(last_error="")
        | Exists(just_ended)
    )
    changes = waiting.order_by("-wanted_at").values_list("pk", "wanted_at")
    newest = next((pk for pk, wanted_at in changes if tried.get(pk) != wanted_at), None)
    return BrokerAccount.objects.select_related("tenant").filter(pk=newest).first()
