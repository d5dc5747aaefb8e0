"""End the oldest connections of devices that have too many."""

import asyncio
from contextlib import suppress

from nats.aio.client import Client

from devices.presence import connection_limit
from devices.presence.connection_limit import Surplus
from natsbridge.client import system_account
from natsbridge.errors import BrokerUnavailable, ClaimsRefused
from natsbridge.runtime import Part


async def end_surplus(part: Part) -> None:
    """End surplus connections, and record those that were ended even if another one fails."""
    if not part.connection.is_connected:
        return
    found = await part.worker.run(connection_limit.surplus)
    if not found:
        return
    kicks = (_kick(part.connection.client, each) for each in found)
    done = await asyncio.gather(*kicks, return_exceptions=True)
    ended = [each for each, outcome in zip(found, done, strict=True) if outcome is True]
    part.runtime.counters["connections.limited"] += len(ended)
    await part.worker.run(connection_limit.record_ended, ended)
    for outcome in done:
        if isinstance(outcome, BaseException):
            raise outcome


async def _kick(system: Client, each: Surplus) -> bool:
    """Return whether it was ended; False if it or its server is already gone."""
    with suppress(ClaimsRefused, BrokerUnavailable):
        await system_account.kick(system, each.server, each.client)
        return True
    return False
