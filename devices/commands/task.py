"""Publish claimed commands to devices that are listening."""

import asyncio
import time
from collections.abc import Iterable
from uuid import UUID

import msgspec
import structlog
from nats.errors import Error as NatsError

from devices.commands import delivery
from devices.commands.delivery import Connections, Outgoing
from devices.presence import sessions
from natsbridge.client import system_account
from natsbridge.errors import BrokerUnavailable
from natsbridge.protocol import subjects
from natsbridge.protocol.envelope import CORRELATION_ID
from natsbridge.runtime import DATABASE_AWAY, Part

log = structlog.get_logger(__name__)

# How long a device that does not listen is left alone: at first, and at most.
UNHEARD_SECONDS = (1.0, 30.0)


class Unheard:
    """Devices that do not listen for commands.

    They are tried again less and less often. The oldest commands go first, so theirs would
    otherwise hold up everybody else's.
    """

    def __init__(self) -> None:
        # When each device is tried again, and how long it was left alone.
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
        """Return the devices that are not due to be tried again."""
        _, most = UNHEARD_SECONDS
        self._again = {name: each for name, each in self._again.items() if each[0] + most > now}
        return {name for name, (again, _) in self._again.items() if again > now}


class Courier:
    """Publish due commands; ask the system account whether a device is listening."""

    def __init__(self, part: Part) -> None:
        self._runtime = part.runtime
        self._system = part.connection
        self._worker = part.worker
        self._unheard = Unheard()

    async def publish_due(self) -> float | None:
        """Publish what one claim takes. Return 0 when there may be more, else None."""
        if not (self._runtime.in_service.is_set() and self._runtime.connection.is_connected):
            return None
        besides = self._unheard.waiting(time.monotonic())
        outgoing = await self._worker.run(delivery.claim_due, besides=besides)
        if not outgoing:
            return None
        by_device: dict[UUID, list[Outgoing]] = {}
        for each in outgoing:
            by_device.setdefault(each.device, []).append(each)
        published = await asyncio.gather(*map(self._publish, by_device.values()))
        sent = [each for some in published for each in some]
        left = {each.command for each in sent}
        unsent = [each for each in outgoing if each.command not in left]
        await self._worker.run(delivery.mark_published, sent, unsent)
        self._runtime.counters["commands.sent"] += len(sent)
        self._unheard.forget({each.device for each in sent})
        self._unheard.note({each.device for each in unsent}, time.monotonic())
        return 0.0

    async def _publish(self, commands: list[Outgoing]) -> list[Outgoing]:
        """Publish commands to one device in order. Return those that were published."""
        sent: list[Outgoing] = []
        first, client = commands[0], self._runtime.connection.client
        subject = subjects.command_export(first.account, first.device)
        try:
            if first.connections is None or await self._is_listening(first, first.connections):
                for each in commands:
                    headers = {CORRELATION_ID: each.request_id} if each.request_id else None
                    payload = msgspec.json.encode(each.payload)
                    await client.publish(subject, payload, headers=headers)
                    sent.append(each)
        except (NatsError, BrokerUnavailable, *DATABASE_AWAY) as error:
            # Caught for each device, since commands to others were published meanwhile.
            log.warning("command waits again", device=str(first.device), error=str(error).strip())
        return sent

    async def _is_listening(self, command: Outgoing, connections: Connections) -> bool:
        """Ask the broker, since the stored connections may be a moment old.

        Raise BrokerUnavailable if none of them listens and a server did not say.
        """
        subject = subjects.device_subject(command.tenant, command.device, "command")
        asked = (system_account.subscriptions(self._system.client, *each) for each in connections)
        heard = await asyncio.gather(*asked, return_exceptions=True)
        denied = {each for each, found in zip(connections, heard, strict=True) if found is None}
        if denied:
            await self._worker.run(sessions.end_denied, denied)
        failed = [found for found in heard if isinstance(found, BaseException)]
        # A server that was killed leaves connections behind until the next comparison.
        unexpected = [each for each in failed if not isinstance(each, BrokerUnavailable)]
        if not unexpected and any(
            subject in found for found in heard if isinstance(found, frozenset)
        ):
            return True
        if failed:
            raise (unexpected or failed)[0]
        self._runtime.counters["commands.unheard"] += 1
        return False
