"""The side task that keeps every account at the broker as the rows have it."""

import asyncio
import math
import time
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from django.db.models import Exists, F, OuterRef, Q
from django.utils import timezone
from nats.aio.client import Client

from natsbridge.errors import BrokerUnavailable
from natsbridge.runtime import Part, Worker
from tenants.broker import provisioning
from tenants.broker.accounts import ACCOUNTS_CHANNEL
from tenants.broker.floods import lift_due_blocks
from tenants.broker.provisioning import Plan
from tenants.credentials.revocations import end_due_credentials
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


async def keep_provisioned(part: Part) -> None:
    """Until stopping."""
    stream_worker = Worker("tenants' streams")
    try:
        await _Keeper(part, stream_worker).run()
    finally:
        await stream_worker.close()


class _Keeper:
    """First what keeps people out: one tenant's claims after the other's, the newest change first,
    so that who is revoked waits neither for hundreds who are only reviewed nor for anybody's
    stream. The streams are seen to beside that."""

    def __init__(self, part: Part, stream_worker: Worker) -> None:
        self._runtime = part.runtime
        self._worker = part.worker
        # With a database connection of its own, since the locks belong to that.
        self._stream_worker = stream_worker
        self._system = part.connection
        self._announced = part.runtime.wakeups.on(ACCOUNTS_CHANNEL)
        # Those that wait for their claims, the newest last; it is looked up again after news.
        self._waiting: list[BrokerAccount] = []
        self._look = True
        self._to_review: list[Tenant] = []
        # What was tried since the last poll, with what it then wanted.
        self._tried: dict[UUID, datetime] = {}
        # Somebody else was at those.
        self._busy: set[UUID] = set()
        self._next_busy = math.inf
        # Their claims are pushed, their streams are next.
        self._streams: dict[UUID, Plan] = {}
        self._stream_waits = asyncio.Event()
        self._reviewed: tuple[Client | None, float] = (None, 0.0)
        self._next_poll = 0.0
        self._next_ending = 0.0

    async def run(self) -> None:
        halves = [asyncio.ensure_future(half) for half in (self._push_all(), self._ensure_all())]
        try:
            done, _ = await asyncio.wait(halves, return_when=asyncio.FIRST_COMPLETED)
            for half in done:
                half.result()
        finally:
            for half in halves:
                half.cancel()
            await asyncio.gather(*halves, return_exceptions=True)

    async def _push_all(self) -> None:
        while not self._runtime.stopping.is_set():
            await self._look_around()
            tenant = self._next()
            if tenant is None:
                due = min(self._next_poll, self._next_ending, self._next_busy)
                await self._pause(due - time.monotonic())
            else:
                await self._push(tenant)

    async def _look_around(self) -> None:
        now = time.monotonic()
        if now >= self._next_poll:
            self._next_poll = now + POLL_SECONDS
            self._tried.clear()
            self._look = True
        if now >= self._next_busy:
            self._next_busy = math.inf
            for busy in self._busy:
                self._tried.pop(busy, None)
            self._busy.clear()
            self._look = True
        if now >= self._next_ending:
            self._next_ending = now + ENDING_SECONDS
            await self._worker.run(end_due_credentials)
            await self._worker.run(lift_due_blocks)
        client = self._system.client
        if client is not self._reviewed[0] or now - self._reviewed[1] > REVIEW_SECONDS:
            self._reviewed = (client, now)
            self._tried.clear()
            self._to_review = await self._worker.run(_all_tenants)
        if self._look or self._announced.is_set():
            self._look = False
            self._announced.clear()
            self._waiting = await self._worker.run(_waiting)

    def _next(self) -> Tenant | None:
        if not self._system.is_connected:
            return None
        while self._waiting:
            account = self._waiting.pop()
            if self._tried.get(account.pk) != account.wanted_at:
                self._tried[account.pk] = account.wanted_at
                return account.tenant
        return self._to_review.pop() if self._to_review else None

    async def _push(self, tenant: Tenant) -> None:
        """One that is refused holds up no other."""
        try:
            plan = await self._worker.run(provisioning.plan_alone, tenant)
            if plan is None:
                self._busy.add(tenant.pk)
                self._next_busy = time.monotonic() + BUSY_SECONDS
                return
            try:
                changes = await self._patiently(plan, provisioning.push_claims)
            finally:
                await self._worker.run(provisioning.release, tenant)
        except provisioning.REFUSALS as error:
            _refused(tenant, error)
            return
        self._streams[tenant.pk] = plan
        self._stream_waits.set()
        _provisioned(tenant, changes)
        if provisioning.RECONNECTING in changes:
            await self._pause(RECONNECTING_SECONDS)

    async def _pause(self, seconds: float) -> None:
        """Or until there is news; either way `_look_around` has to look."""
        await self._runtime.pause(max(seconds, 0), wake=self._announced)
        self._look = True

    async def _ensure_all(self) -> None:
        while not self._runtime.stopping.is_set():
            if not self._streams:
                await self._runtime.pause(POLL_SECONDS, wake=self._stream_waits)
                continue
            plan = self._streams.pop(next(iter(self._streams)))
            try:
                await self._ensure(plan)
            except provisioning.REFUSALS as error:
                _refused(plan.tenant, error)

    async def _ensure(self, plan: Plan) -> None:
        """What somebody else is at is left to the next poll."""
        tenant, worker = plan.tenant, self._stream_worker
        if not await worker.run(provisioning.hold_stream, tenant):
            return
        try:
            changes = await self._patiently(plan, provisioning.ensure_stream)
        finally:
            await worker.run(provisioning.release_stream, tenant)
        newer = await worker.run(provisioning.plan_alone, tenant)
        if newer is None:
            return
        try:
            if newer.stream == plan.stream:
                changes += await self._patiently(newer, provisioning.lower_storage)
        finally:
            await worker.run(provisioning.release, tenant)
        await worker.run(provisioning.record, plan, None)
        _provisioned(tenant, changes)

    async def _patiently(self, plan: Plan, step: provisioning.Use) -> list[str]:
        try:
            async with asyncio.timeout(provisioning.PATIENCE_SECONDS):
                return await step(plan, self._system.client)
        except provisioning.REFUSALS as error:
            await self._stream_worker.run(provisioning.record, plan, error)
            raise
        except TimeoutError as error:
            away = BrokerUnavailable("nats-server did not answer in time")
            await self._stream_worker.run(provisioning.record, plan, away)
            raise away from error


def _refused(tenant: Tenant, error: Exception) -> None:
    log.warning("tenant not provisioned", tenant=str(tenant.pk), error=str(error))


def _provisioned(tenant: Tenant, changes: list[str]) -> None:
    if changes:
        log.info("tenant provisioned", tenant=str(tenant.pk), changes=changes)


def _all_tenants() -> list[Tenant]:
    return list(Tenant.objects.all())


def _waiting() -> list[BrokerAccount]:
    """The accounts that are not at the broker as their rows are; the latest change is the last."""
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
    return list(waiting.select_related("tenant").order_by("wanted_at"))
