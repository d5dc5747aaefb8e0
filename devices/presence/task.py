"""Keep presence right: compare it with the broker's lists, and mark devices offline whose grace is
over.

It uses a connection to the system account. No device is marked offline before a list has been
compared over the present connection, since what happened without one is not known until then.
"""

import asyncio
import time
from functools import partial

import structlog
from django.utils import timezone
from nats.aio.client import Client
from nats.errors import Error as NatsError

from devices.presence import reconciliation, sessions
from natsbridge.client import system_account
from natsbridge.errors import BridgeError
from natsbridge.runtime import DATABASE_AWAY, RETRY_SECONDS, Part, Worker
from tenants.errors import TenantsError

log = structlog.get_logger(__name__)

LOOK_SECONDS = 0.5
RECONCILE_SECONDS = 60.0
# A server that was killed announces nothing; its devices are compared as soon as it is missed.
SERVERS_SECONDS = 5.0
# After a new connection, so that events still on their way then are not missed for long.
SOON_SECONDS = (10.0, 20.0)
# In case a wake-up was lost; and the least time between two sweeps.
POLL_SECONDS = 5.0
LEAST_SECONDS = 0.1
SECOND_LOOK_SECONDS = 1.0


async def watch_presence(part: Part) -> None:
    """Run until the subscriber stops."""
    keeper = Reconciler(part)
    sweep = partial(_sweep, part, keeper)
    # If one fails the other ends too, and both are started again.
    async with asyncio.TaskGroup() as tasks:
        reconciling = tasks.create_task(keeper.run(), name="reconcile presence")
        await part.repeat(
            sweep, every=POLL_SECONDS, wakes_on=sessions.PRESENCE_CHANNEL, least=LEAST_SECONDS
        )
        # It ends by itself now, unless it waits for a server.
        await asyncio.wait([reconciling], timeout=RETRY_SECONDS)
        reconciling.cancel()


class Reconciler:
    """Ask every server for its connections after each reconnect and each loss of a server, soon
    again, then each minute."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self._connection = part.connection
        self._compared: Client | None = None
        self._waits: list[float] = []
        self._due_at = 0.0
        # The servers of the last list, and when they were last asked whether they are up.
        self._servers: frozenset[str] = frozenset()
        self._asked_at = 0.0

    @property
    def is_current(self) -> bool:
        """Return whether a list was compared over the present connection."""
        return self._connection.is_connected and self._compared is self._connection.client

    async def run(self) -> None:
        worker = Worker("presence list")
        try:
            await self._part.repeat(partial(self._look, worker), every=LOOK_SECONDS)
        finally:
            await worker.close()

    async def _look(self, worker: Worker) -> None:
        client = self._connection.client
        if client is not self._compared or await self._lost_server(client):
            self._waits, self._due_at = list(SOON_SECONDS), 0.0
        if self._connection.is_connected and time.monotonic() >= self._due_at:
            wait = RETRY_SECONDS
            if await self._reconcile(worker, client):
                wait = self._waits.pop(0) if self._waits else RECONCILE_SECONDS
            self._due_at = time.monotonic() + wait

    async def _lost_server(self, client: Client) -> bool:
        """Return whether a server of the last list is not up any more, at intervals."""
        if not self._connection.is_connected or time.monotonic() < self._asked_at + SERVERS_SECONDS:
            return False
        self._asked_at = time.monotonic()
        try:
            up = await system_account.server_ids(client)
        except (NatsError, BridgeError, OSError) as error:
            log.warning("presence cannot ask which servers are up", error=str(error).strip())
            return False
        return not self._servers <= up

    async def _reconcile(self, worker: Worker, client: Client) -> bool:
        try:
            if not await worker.run(reconciliation.take_turn):
                return False
            try:
                await self._compare(worker, client)
            finally:
                await worker.run(reconciliation.release_turn)
        except (NatsError, BridgeError, TenantsError, OSError, *DATABASE_AWAY) as error:
            log.warning("presence waits for the broker's list", error=str(error).strip())
            return False
        if client is not self._compared:
            self._compared = client
        return True

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
        self._servers = frozenset(part.server for part in parts)
        self._part.runtime.counters["presence.ended_by_list"] += ended


async def _sweep(part: Part, keeper: Reconciler) -> float | None:
    """Return the seconds until the next grace ends, or None."""
    if not keeper.is_current:
        return LEAST_SECONDS
    if not part.runtime.connection.is_connected:
        return None
    due = await part.worker.run(sessions.sweep)
    if due is None:
        return None
    return min(POLL_SECONDS, max(LEAST_SECONDS, (due - timezone.now()).total_seconds()))
