"""The side task that ends a device's oldest connection when it opens one too many."""

import asyncio
from contextlib import suppress

import structlog
from nats.aio.client import Client
from nats.errors import Error as NatsError

from devices.presence import connection_limit
from devices.presence.connection_limit import Surplus
from devices.presence.sessions import CONNECTIONS_CHANNEL
from natsbridge.client import system_account
from natsbridge.errors import BridgeError, BrokerUnavailable, ClaimsRefused
from natsbridge.runtime import DATABASE_AWAY, Runtime, Worker
from tenants.broker import logins, provisioning

log = structlog.get_logger(__name__)

# In case a wake-up was lost; and the least time between two looks, in which the broker's events of
# the connections that were ended arrive.
POLL_SECONDS = 10.0
LEAST_SECONDS = 0.5


async def limit_connections(runtime: Runtime) -> None:
    """Until stopping, over a connection of its own to the system account."""
    worker = Worker("connection limit")
    wake = runtime.wakeups.on(CONNECTIONS_CHANNEL)
    try:
        login = await worker.run(logins.system_login)
        async with provisioning.connected(login, "connection limit") as connection:
            while not runtime.stopping.is_set():
                try:
                    if connection.is_connected:
                        await _end_surplus(runtime, worker, connection.client)
                except (NatsError, BridgeError, OSError, *DATABASE_AWAY) as error:
                    log.warning("the limit of connections waits", error=str(error).strip())
                await runtime.pause(POLL_SECONDS, wake=wake)
                await runtime.pause(LEAST_SECONDS)
    finally:
        await worker.close()


async def _end_surplus(runtime: Runtime, worker: Worker, system: Client) -> None:
    found = await worker.run(connection_limit.surplus)
    if not found:
        return
    done = await asyncio.gather(*(_end(system, each) for each in found))
    ended = [each for each, was_ended in zip(found, done, strict=True) if was_ended]
    runtime.counters["connections.limited"] += len(ended)
    await worker.run(connection_limit.record_ended, ended)


async def _end(system: Client, each: Surplus) -> bool:
    """False for one that has left by itself, or whose server has."""
    with suppress(ClaimsRefused, BrokerUnavailable):
        await system_account.kick(system, each.server, each.client)
        return True
    return False
