"""Disconnect senders that flood the broker.

The broker has no limit on a sender's rate. A device that sends 100,000 messages a second takes what
its neighbours need, so it has to be found and disconnected within seconds. This task has a
connection of its own, to the system account, since the others are busy then.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

import structlog
from django.conf import settings
from nats.aio.client import Client

from natsbridge.client import system_account
from natsbridge.errors import ClaimsRefused
from natsbridge.protocol.broker_events import BrokerConnection
from natsbridge.rules import shares
from natsbridge.rules.metering import Allowance, ConnectionKey, Excess, Meter
from natsbridge.runtime import Part
from tenants.broker.floods import Sender, record_flood, tenants_by_account

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.2
RECORD_SECONDS = 0.2
# How many busy connections are identified at a time.
ASKED_AT_ONCE = 100
# How many of the last floods the status names.
NAMED = 10
# How many flooders with a tenant credential are remembered: their next connections are suspects.
SUSPECTS = 100


class FloodWatch:
    """Asks the servers five times a second how much they received.

    If one sender could have sent too much of that, it asks which connections sent it.
    """

    def __init__(self, part: Part) -> None:
        self._part = part
        self._runtime = part.runtime
        self._worker = part.worker
        self._allowance = Allowance(
            settings.DEVICE_MESSAGES_PER_SECOND,
            settings.DEVICE_MESSAGES_BURST,
            settings.DEVICE_BYTES_PER_SECOND,
            settings.DEVICE_BYTES_BURST,
        )
        self._meter: Meter[Sender] = Meter(self._allowance)
        # By server: messages, bytes, and when that was.
        self._received: dict[str, tuple[int, int, float]] = {}
        # Floods that were ended, but are not recorded yet.
        self._unrecorded: deque[Callable[[], object]] = deque()
        self._ended: deque[dict[str, object]] = deque(maxlen=NAMED)
        self._suspects: deque[Sender] = deque(maxlen=SUSPECTS)
        # The public keys of accounts, by tenant.
        self._accounts: dict[UUID, str] = {}
        part.runtime.gauges["floods"] = lambda: list(self._ended)

    async def run(self) -> None:
        """Watch until stopping, and then record what is left, if the database answers."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._part.repeat(self._look, every=POLL_SECONDS))
            # Beside it, so that a slow database prolongs no flood.
            tasks.create_task(self._part.repeat(self._record, every=RECORD_SECONDS))
        await self._record()

    async def _look(self) -> None:
        system = self._part.connection.client
        if not self._part.connection.is_connected or not await self._may_be_flooded(system):
            return
        unknown = self._meter.observe(await system_account.traffic(system), time.monotonic())
        await self._identify(system, unknown[:ASKED_AT_ONCE])
        for sender, excess in self._meter.excesses(time.monotonic()).items():
            await self._end(system, sender, excess)

    async def _may_be_flooded(self, system: Client) -> bool:
        """Return whether a server received more than one sender may send: a cheap filter first."""
        before, now = self._received, time.monotonic()
        self._received = {
            server: (*counted, now)
            for server, counted in (await system_account.received(system)).items()
        }
        return any(
            server not in before or self._is_much(before[server], counted)
            for server, counted in self._received.items()
        )

    def _is_much(self, before: tuple[int, int, float], counted: tuple[int, int, float]) -> bool:
        seconds = counted[2] - before[2]
        return (
            counted[0] - before[0] > seconds * self._allowance.messages
            or counted[1] - before[1] > seconds * self._allowance.bytes
        )

    async def _identify(self, system: Client, keys: Sequence[ConnectionKey]) -> None:
        if not keys:
            return
        found = await asyncio.gather(*(system_account.connection(system, key) for key in keys))
        connections = dict(zip(keys, found, strict=True))
        tenants = await self._worker.run(
            tenants_by_account, [each.user.account for each in found if each]
        )
        self._accounts |= {tenant: account for account, tenant in tenants.items()}
        for key, connection in connections.items():
            sender = connection and _sender(key, connection, tenants)
            self._meter.identify(key, sender)
            # Each connection of a tenant credential is a sender, but flooders come back.
            if sender and replace(sender, connection=None) in self._suspects:
                self._meter.suspect(sender, time.monotonic())

    async def _end(self, system: Client, sender: Sender, excess: Excess) -> None:
        seen_at, were_gone = datetime.now(UTC), True
        for server, number in excess.connections:
            # It may have gone by itself, or another subscriber was faster.
            with suppress(ClaimsRefused):
                await system_account.kick(system, server, number)
                were_gone = False
        self._meter.disconnected(sender, excess.connections)
        self._suspects.append(replace(sender, connection=None))
        if sender.device:
            line = shares.Sender(self._accounts[sender.tenant], str(sender.device))
            self._runtime.slow_lane.add(line, time.monotonic())
        self._runtime.counters["floods.ended"] += 1
        self._ended.append(
            {
                "sender": sender.name,
                "tenant": str(sender.tenant),
                "at": seen_at.isoformat(),
                "messages_per_second": round(excess.messages_per_second),
                "bytes_per_second": round(excess.bytes_per_second),
            }
        )
        log.warning("disconnected for sending too much", **self._ended[-1])
        record = partial(record_flood, sender, excess, seen_at=seen_at, were_gone=were_gone)
        self._unrecorded.append(record)

    async def _record(self) -> None:
        while self._unrecorded:
            await self._worker.run(self._unrecorded[0])
            self._unrecorded.popleft()


def _sender(
    key: ConnectionKey, connection: BrokerConnection, tenants: Mapping[str, UUID]
) -> Sender | None:
    """Return the sender, or None for one of the platform's own users."""
    user = connection.user
    tenant = tenants.get(user.account)
    if tenant is None:
        return None
    try:
        device = UUID(user.name)
    except ValueError:
        return Sender(tenant, None, user.public, connection.address, key)
    return Sender(tenant, device)
