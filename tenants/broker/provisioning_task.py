"""Keep every tenant's account at the broker as the rows say."""

import asyncio
import math
import time
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from django.db.models import Exists, F, OuterRef, Q
from django.utils import timezone
from nats.aio.client import Client

from natsbridge.runtime import Part, Worker
from tenants.broker.accounts import ACCOUNTS_CHANNEL
from tenants.broker.plans import RECONNECTING, Plan
from tenants.broker.provisioning import REFUSALS, Provisioner
from tenants.models import BrokerAccount, Credential, Tenant

log = structlog.get_logger(__name__)

# How often a lost NOTIFY, and a tenant that could not be provisioned, are looked at again.
POLL_SECONDS = 15.0
# All tenants are reviewed after each new connection, since the server may have lost its accounts,
# and this often in any case.
REVIEW_SECONDS = 600.0
# How soon a new connection is noticed.
LOOK_SECONDS = 1.0
# When to try again after another process, which may have read older rows.
BUSY_SECONDS = 0.2
# Between two tenants whose clients all have to log in again, as after a new version changes their
# permissions. A change that keeps somebody out does not wait.
RECONNECTING_SECONDS = 1.0
# Longer than a poll, so that one follows the login.
LOGIN_UNDER_WAY = timedelta(seconds=2 * POLL_SECONDS)


async def keep_provisioned(part: Part) -> None:
    """Provision tenants until stopping."""
    stream_worker = Worker("tenants' streams")
    try:
        await _Keeper(part, stream_worker).run()
    finally:
        await stream_worker.close()


class _Keeper:
    """Pushes the claims of one tenant after the other, and sees to their streams beside that.

    The newest change comes first, so that a revocation waits neither for hundreds of tenants that
    are only reviewed nor for anybody's stream.
    """

    def __init__(self, part: Part, stream_worker: Worker) -> None:
        self._runtime = part.runtime
        self._worker = part.worker
        self._system = part.connection
        # Each has a database connection of its own, to which its locks belong.
        self._pusher = Provisioner(part.connection, part.worker, wait=False)
        self._finisher = Provisioner(part.connection, stream_worker, wait=False)
        self._announced = part.runtime.wakeups.on(ACCOUNTS_CHANNEL)
        # Tenants whose claims are pending, the newest change last; read again after a NOTIFY.
        self._waiting: list[BrokerAccount] = []
        self._look = True
        self._to_review: list[Tenant] = []
        # The tenants tried since the last poll, with the change that was pending.
        self._tried: dict[UUID, datetime] = {}
        # Tenants that another process was provisioning.
        self._busy: set[UUID] = set()
        self._next_busy = math.inf
        # Tenants whose claims have been pushed; their streams are next.
        self._streams: dict[UUID, Plan] = {}
        self._stream_waits = asyncio.Event()
        self._reviewed: tuple[Client | None, float] = (None, 0.0)
        self._next_poll = 0.0

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
                due = min(self._next_poll, self._next_busy) - time.monotonic()
                await self._pause(min(due, LOOK_SECONDS))
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
        """Push a tenant's claims. A tenant that is refused holds up no other."""
        try:
            pushed = await self._pusher.push(tenant)
        except REFUSALS as error:
            _log_refusal(tenant, error)
            return
        if pushed is None:
            self._busy.add(tenant.pk)
            self._next_busy = time.monotonic() + BUSY_SECONDS
            return
        plan, changes = pushed
        self._streams[tenant.pk] = plan
        self._stream_waits.set()
        _log_changes(tenant, changes)
        if RECONNECTING in changes:
            await self._pause(RECONNECTING_SECONDS)

    async def _pause(self, seconds: float) -> None:
        """Wait, but no longer than until a NOTIFY, and look around afterwards."""
        await self._runtime.pause(max(seconds, 0), wake=self._announced)
        self._look = True

    async def _ensure_all(self) -> None:
        while not self._runtime.stopping.is_set():
            if not self._streams:
                await self._runtime.pause(POLL_SECONDS, wake=self._stream_waits)
                continue
            plan = self._streams.pop(next(iter(self._streams)))
            try:
                # A tenant that another process provisions is left to the next poll.
                changes = await self._finisher.finish(plan)
            except REFUSALS as error:
                _log_refusal(plan.tenant, error)
            else:
                _log_changes(plan.tenant, changes or [])


def _log_refusal(tenant: Tenant, error: Exception) -> None:
    log.warning("tenant not provisioned", tenant=str(tenant.pk), error=str(error))


def _log_changes(tenant: Tenant, changes: list[str]) -> None:
    if changes:
        log.info("tenant provisioned", tenant=str(tenant.pk), changes=changes)


def _all_tenants() -> list[Tenant]:
    return list(Tenant.objects.all())


def _waiting() -> list[BrokerAccount]:
    """Return the accounts with pending changes, the latest change last."""
    # A login that was under way while its password ended was not connected yet when the claims
    # were pushed.
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
