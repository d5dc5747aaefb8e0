"""The side task that carries commands from their rows to the broker."""

import asyncio
import time
from collections.abc import Iterable
from uuid import UUID

import msgspec
import structlog
from nats.errors import Error as NatsError

from devices.commands import delivery, expansion
from devices.commands.delivery import Connections, Outgoing
from devices.commands.issue import COMMANDS_CHANNEL
from devices.presence import sessions
from natsbridge.client import system_account
from natsbridge.client.connection import Connection
from natsbridge.errors import BrokerUnavailable
from natsbridge.protocol import subjects
from natsbridge.runtime import DATABASE_AWAY, Runtime, Worker
from tenants.broker import logins, provisioning

log = structlog.get_logger(__name__)

# When nothing wakes it: for resends, and in case a wake-up was lost.
POLL_SECONDS = 2.0
SWEEP_EVERY = 5
# A device that does not listen is asked again after so long: at first, and at most.
UNHEARD_SECONDS = (1.0, 30.0)


async def deliver(runtime: Runtime) -> None:
    """Until stopping. What was claimed when it stops has been published."""
    worker = Worker("commands")
    try:
        login = await worker.run(logins.system_login)
        async with provisioning.connected(login, "commands") as system:
            await _Courier(runtime, system, worker).run()
    finally:
        await worker.close()


class Unheard:
    """Devices that do not listen for commands. They are asked again, less and less often: the
    oldest commands go first, so theirs would hold up those of all others."""

    def __init__(self) -> None:
        # When each is asked again, and how long it waits for that.
        self._again: dict[UUID, tuple[float, float]] = {}

    def note(self, devices: Iterable[UUID], now: float) -> None:
        first, most = UNHEARD_SECONDS
        for device in devices:
            _, before = self._again.get(device, (0.0, first / 2))
            seconds = min(2 * before, most)
            self._again[device] = (now + seconds, seconds)

    def forget(self, devices: Iterable[UUID]) -> None:
        for device in devices:
            self._again.pop(device, None)

    def waiting(self, now: float) -> set[UUID]:
        """Return those that are not to be asked yet."""
        _, most = UNHEARD_SECONDS
        self._again = {name: each for name, each in self._again.items() if each[0] + most > now}
        return {name for name, (again, _) in self._again.items() if again > now}


class _Courier:
    """Publishes what is due. The system account is asked who is listening."""

    def __init__(self, runtime: Runtime, system: Connection, worker: Worker) -> None:
        self._runtime = runtime
        self._system = system
        self._worker = worker
        self._wake = runtime.wakeups.on(COMMANDS_CHANNEL)
        self._unheard = Unheard()

    async def run(self) -> None:
        rounds = 0
        while not self._runtime.stopping.is_set():
            try:
                if self._runtime.connection.is_connected:
                    await self._publish_due()
                if rounds % SWEEP_EVERY == 0:
                    await self._worker.run(delivery.sweep)
                    await self._worker.run(expansion.expand_unfinished)
            except DATABASE_AWAY as error:
                log.warning("commands wait for the database", error=str(error).strip())
            rounds += 1
            await self._runtime.pause(POLL_SECONDS, wake=self._wake)

    async def _publish_due(self) -> None:
        """Straight on while there is more than one claim takes."""
        besides = self._unheard.waiting(time.monotonic())
        outgoing = await self._worker.run(delivery.claim_due, besides=besides)
        if not outgoing:
            return
        by_device: dict[UUID, list[Outgoing]] = {}
        for each in outgoing:
            by_device.setdefault(each.device, []).append(each)
        published = await asyncio.gather(*map(self._publish, by_device.values()))
        sent = [each for some in published for each in some]
        left = {each.command for each in sent}
        unsent = [each for each in outgoing if each.command not in left]
        await self._worker.run(delivery.settle, sent, unsent)
        self._runtime.counters["commands.sent"] += len(sent)
        self._unheard.forget({each.device for each in sent})
        self._unheard.note({each.device for each in unsent}, time.monotonic())
        self._wake.set()

    async def _publish(self, commands: list[Outgoing]) -> list[Outgoing]:
        """To one device, in order; returns those that left."""
        sent: list[Outgoing] = []
        first, client = commands[0], self._runtime.connection.client
        subject = subjects.command_export(first.account, first.device)
        try:
            if first.connections is None or await self._is_listening(first, first.connections):
                for each in commands:
                    await client.publish(subject, msgspec.json.encode(each.payload))
                    sent.append(each)
        except (NatsError, BrokerUnavailable, *DATABASE_AWAY) as error:
            # Here and not further up, since those to other devices have left meanwhile.
            log.warning("command waits again", device=str(first.device), error=str(error).strip())
        return sent

    async def _is_listening(self, command: Outgoing, connections: Connections) -> bool:
        """What the platform knows of connections is a moment old; the broker knows better."""
        subject = subjects.device_subject(command.tenant, command.device, "command")
        heard = [
            await system_account.subscriptions(self._system.client, server, client)
            for server, client in connections
        ]
        denied = {
            connection
            for connection, found in zip(connections, heard, strict=True)
            if found is None
        }
        if denied:
            await self._worker.run(sessions.end_denied, denied)
        if any(subject in found for found in heard if found is not None):
            return True
        self._runtime.counters["commands.unheard"] += 1
        return False
