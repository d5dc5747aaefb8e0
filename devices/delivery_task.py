"""The side task that carries commands from their rows to the broker."""

import asyncio

import msgspec
import structlog
from nats.errors import Error as NatsError

from devices.actions import delivery, filling
from devices.actions.commands import COMMANDS_CHANNEL
from devices.actions.delivery import Outgoing
from natsbridge import subjects
from natsbridge.runtime import DATABASE_AWAY, Runtime, Worker

log = structlog.get_logger(__name__)

# When nothing wakes it: for resends, and in case a wake-up was lost.
POLL_SECONDS = 2.0
SWEEP_EVERY = 5


async def deliver(runtime: Runtime) -> None:
    """Until stopping. What was claimed when it stops has been published."""
    wake = runtime.wakeups.on(COMMANDS_CHANNEL)
    worker = Worker("commands")
    try:
        rounds = 0
        while not runtime.stopping.is_set():
            try:
                if runtime.connection.is_connected:
                    await _publish_due(runtime, worker, wake)
                if rounds % SWEEP_EVERY == 0:
                    await worker.run(delivery.sweep)
                    await worker.run(filling.fill_what_was_left)
            except DATABASE_AWAY as error:
                log.warning("commands wait for the database", error=str(error).strip())
            rounds += 1
            await runtime.pause(POLL_SECONDS, wake=wake)
    finally:
        await worker.close()


async def _publish_due(runtime: Runtime, worker: Worker, wake: asyncio.Event) -> None:
    """Straight on while there is more than one claim takes."""
    client = runtime.connection.client
    outgoing = await worker.run(delivery.claim_due)
    if not outgoing:
        return
    unsent: list[Outgoing] = []
    for each in outgoing:
        subject = subjects.command_export(each.account, each.device)
        try:
            await client.publish(subject, msgspec.json.encode(each.payload))
        except NatsError as error:
            unsent.append(each)
            log.warning("command waits again", device=str(each.device), error=str(error))
    sent = [each for each in outgoing if each not in unsent]
    await worker.run(delivery.settle, sent, unsent)
    runtime.counters["commands.sent"] += len(sent)
    if sent:
        wake.set()
