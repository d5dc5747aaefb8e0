"""The side task that keeps every account at the broker as the rows have it."""

import time

import structlog
from django.db.models import F, Q
from nats.aio.client import Client

from natsbridge.errors import BrokerUnavailable
from natsbridge.runtime import Runtime, Worker
from tenants import actions, provisioning
from tenants.models import BrokerAccount, Tenant

log = structlog.get_logger(__name__)

# A NOTIFY that was lost, and a tenant that could not be provisioned, are looked at again.
POLL_SECONDS = 15.0
# All tenants are looked at when the connection is new, since the server may have lost what it
# had, and this often in any case.
REVIEW_SECONDS = 600.0


async def keep_provisioned(runtime: Runtime) -> None:
    """Until stopping."""
    announced = runtime.wakeups.on(actions.ACCOUNTS_CHANNEL)
    worker = Worker("accounts")
    reviewed: tuple[Client | None, float] = (None, 0.0)
    try:
        while not runtime.stopping.is_set():
            client, now = runtime.connection.client, time.monotonic()
            if client is not reviewed[0] or now - reviewed[1] > REVIEW_SECONDS:
                reviewed = (client, now)
                await _provision_each(runtime, worker, await worker.run(_all_tenants))
            await _provision_each(runtime, worker, await worker.run(_unprovisioned_tenants))
            await runtime.pause(POLL_SECONDS, wake=announced)
    finally:
        await worker.close()


async def _provision_each(runtime: Runtime, worker: Worker, tenants: list[Tenant]) -> None:
    """One that is refused holds up no other; without a broker there is no point in going on."""
    for tenant in tenants:
        if runtime.stopping.is_set():
            return
        try:
            changes = await worker.run(provisioning.provision, tenant)
        except provisioning.REFUSALS as error:
            log.warning("tenant not provisioned", tenant=str(tenant.pk), error=str(error))
            if isinstance(error, BrokerUnavailable):
                return
        else:
            if changes:
                log.info("tenant provisioned", tenant=str(tenant.pk), changes=changes)


def _all_tenants() -> list[Tenant]:
    return list(Tenant.objects.all())


def _unprovisioned_tenants() -> list[Tenant]:
    """The newest first: somebody may be waiting for it."""
    waiting = BrokerAccount.objects.filter(
        Q(provisioned_at=None) | Q(provisioned_at__lt=F("wanted_at")) | ~Q(last_error="")
    )
    newest_first = waiting.select_related("tenant").order_by("-tenant__created_at")
    return [account.tenant for account in newest_first]
