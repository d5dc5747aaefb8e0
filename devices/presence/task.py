"""The side task that keeps presence right: compares with the broker's list, and lets those who
are due go.

It has its own connection, to the system account. Nobody is let go before the list has been
compared over the present connection: what happened while there was none is not known until then.
"""

import asyncio
import time
from datetime import datetime

import structlog
from django.utils import timezone
from nats.aio.client import Client
from nats.errors import Error as NatsError

from devices.presence import reconciliation, sessions
from natsbridge.client import system_account
from natsbridge.client.connection import Connection
from natsbridge.errors import BridgeError
from natsbridge.runtime import DATABASE_AWAY, Runtime, Worker
from tenants.broker import logins, provisioning
from tenants.errors import TenantsError

log = structlog.get_logger(__name__)

RECONCILE_SECONDS = 60.0
# After a fresh connection: what was still on its way then is seen soon.
SOON_SECONDS = (10.0, 20.0)
RETRY_SECONDS = 2.0
# In case a wake-up was lost; and the least time between two sweeps.
POLL_SECONDS = 5.0
LEAST_SECONDS = 0.1
SECOND_LOOK_SECONDS = 1.0


async def watch_presence(runtime: Runtime) -> None:
    """Until stopping."""
    worker = Worker("presence sweep")
    try:
        login = await worker.run(logins.system_login)
        async with provisioning.connected(login, "presence") as connection:
            keeper = Reconciler(runtime, connection)
            # One that fails ends the other, and both are started again.
            async with asyncio.TaskGroup() as tasks:
                reconciling = tasks.create_task(keeper.run(), name="reconcile presence")
                await _sweep(runtime, worker, keeper)
                # It ends by itself now, unless a server keeps it waiting.
                await asyncio.wait([reconciling], timeout=RETRY_SECONDS)
                reconciling.cancel()
    finally:
        await worker.close()


class Reconciler:
    """Asks every server who is connected: on each fresh connection, soon again, and each minute."""

    def __init__(self, runtime: Runtime, connection: Connection) -> None:
        self._runtime = runtime
        self._connection = connection
        self._compared: Client | None = None
        self.fresh = asyncio.Event()

    @property
    def is_current(self) -> bool:
        """Whether the list was compared over the connection there is now."""
        return self._connection.is_connected and self._compared is self._connection.client

    async def run(self) -> None:
        worker = Worker("presence list")
        waits = list(SOON_SECONDS)
        due_at = 0.0
        try:
            while not self._runtime.stopping.is_set():
                client = self._connection.client
                if client is not self._compared:
                    waits, due_at = list(SOON_SECONDS), 0.0
                if self._connection.is_connected and time.monotonic() >= due_at:
                    succeeded = await self._reconcile(worker, client)
                    wait = (waits.pop(0) if waits else RECONCILE_SECONDS) if succeeded else 0.0
                    due_at = time.monotonic() + max(wait, RETRY_SECONDS)
                await self._runtime.pause(0.5)
        finally:
            await worker.close()

    async def _reconcile(self, worker: Worker, client: Client) -> bool:
        try:
            if client is not self._compared:
                await self._bring_up_to_date(worker, client)
            if not await worker.run(reconciliation.begin):
                return False
            try:
                await self._compare(worker, client)
            finally:
                await worker.run(reconciliation.end)
        except (NatsError, BridgeError, TenantsError, OSError, *DATABASE_AWAY) as error:
            log.warning("presence waits for the broker's list", error=str(error).strip())
            return False
        if client is not self._compared:
            self._compared = client
            self.fresh.set()
        return True

    async def _bring_up_to_date(self, worker: Worker, client: Client) -> None:
        """A server set up by an earlier version does not hand on yet who connects."""
        for jwt in (await worker.run(logins.platform_claims)).values():
            if await system_account.bring_up_to_date(client, jwt):
                log.info("claims of a platform account updated")

    async def _compare(self, worker: Worker, client: Client) -> None:
        parts = await system_account.all_connections(client)
        first = await worker.run(reconciliation.take_in, parts)
        if client is not self._compared:
            await worker.run(sessions.postpone)
        second = first
        if first.missing or first.gone:
            await asyncio.sleep(SECOND_LOOK_SECONDS)
            parts = await system_account.all_connections(client)
            second = await worker.run(reconciliation.take_in, parts)
        ended = await worker.run(reconciliation.conclude, first, second, parts)
        self._runtime.counters["presence.ended_by_list"] += ended


async def _sweep(runtime: Runtime, worker: Worker, keeper: Reconciler) -> None:
    wake = runtime.wakeups.on(sessions.PRESENCE_CHANNEL)
    while not runtime.stopping.is_set():
        next_due: datetime | None = None
        if keeper.is_current and runtime.connection.is_connected:
            try:
                next_due = await worker.run(sessions.sweep)
            except DATABASE_AWAY as error:
                log.warning("presence waits for the database", error=str(error).strip())
        elif not keeper.is_current:
            await runtime.pause(LEAST_SECONDS, wake=keeper.fresh)
            continue
        await runtime.pause(_until(next_due), wake=wake)
        await asyncio.sleep(LEAST_SECONDS)


def _until(due: datetime | None) -> float:
    if due is None:
        return POLL_SECONDS
    return min(POLL_SECONDS, max(LEAST_SECONDS, (due - timezone.now()).total_seconds()))
