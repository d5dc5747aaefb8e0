"""A device's oldest connection is ended when it opens one too many."""

import asyncio
from contextlib import suppress

from nats.aio.client import Client

from devices.presence import connection_limit
from devices.presence.connection_limit import Surplus
from natsbridge.client import system_account
from natsbridge.errors import BrokerUnavailable, ClaimsRefused
from natsbridge.runtime import Part


async def end_surplus(part: Part) -> None:
    """End what is one too many, as far as the broker answers; what was ended is on record even
    where something else fails."""
    if not part.connection.is_connected:
        return
    found = await part.worker.run(connection_limit.surplus)
    if not found:
        return
    kicks = (_end(part.connection.client, each) for each in found)
    done = await asyncio.gather(*kicks, return_exceptions=True)
    ended = [each for each, outcome in zip(found, done, strict=True) if outcome is True]
    part.runtime.counters["connections.limited"] += len(ended)
    await part.worker.run(connection_limit.record_ended, ended)
    for outcome in done:
        if isinstance(outcome, BaseException):
            raise outcome


async def _end(system: Client, each: Surplus) -> bool:
    """False for one that has left by itself, or whose server has."""
    with suppress(ClaimsRefused, BrokerUnavailable):
        await system_account.kick(system, each.server, each.client)
        return True
    return False
