"""Hand dead letters to their handlers once more, when somebody asks for it."""

from typing import Any

import structlog

from natsbridge.dead_letters import store
from natsbridge.dead_letters.store import REPLAYS_CHANNEL, replay_some
from natsbridge.errors import DependencyAway, InvalidSubject
from natsbridge.models import DeadLetter
from natsbridge.protocol.envelope import RawMessage
from natsbridge.registry import Registry, Rejection
from natsbridge.runtime import Runtime, Worker
from natsbridge.subscriber.breaker import DATABASE
from natsbridge.subscriber.dispatch import BatchHandler, all_to, device_messages
from natsbridge.subscriber.intake import DEVICE_STREAMS

log = structlog.get_logger(__name__)

# In case a NOTIFY is lost.
POLL_SECONDS = 10.0
AT_ONCE = 100


async def replay_dead_letters(runtime: Runtime, registry: Registry) -> None:
    """Until stopping."""
    asked = runtime.wakeups.on(REPLAYS_CHANNEL)
    worker = Worker("replays")
    replay = handing_over(registry)
    try:
        while not runtime.stopping.is_set():
            done = 0
            if DATABASE.admits():
                try:
                    done = await worker.run(replay_some, replay, most=AT_ONCE)
                except DependencyAway as error:
                    log.warning("replays wait", error=str(error))
            if done:
                runtime.counters["replays"] += done
            if done < AT_ONCE:
                await runtime.pause(POLL_SECONDS, wake=asked)
    finally:
        await worker.close()


def handing_over(registry: Registry) -> store.Replay:
    """To the handler of the part that could not use it; where that part is not known, or is no
    more, to the one that the subject belongs to."""
    to_devices = device_messages(registry)

    def replay(row: DeadLetter, raw: RawMessage) -> Rejection | None:
        handler: BatchHandler
        content: Any = raw
        if row.source in registry.streams:
            handler, content = all_to(registry.streams[row.source])(raw)
        elif row.source in registry.live:
            handler = registry.live[row.source].handle
        elif row.source in DEVICE_STREAMS or not row.source:
            handler, content = to_devices(raw)
        else:
            raise InvalidSubject(f"Nothing handles messages of {row.source!r}.")
        return next(iter(handler([content])), None)

    return replay
