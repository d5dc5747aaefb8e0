"""Hand dead letters to their handlers again, when a person has requested it."""

from typing import Any

from natsbridge.dead_letters import store
from natsbridge.errors import InvalidSubject
from natsbridge.models import DeadLetter
from natsbridge.protocol.envelope import RawMessage
from natsbridge.registry import Registry, Rejection
from natsbridge.runtime import Runtime
from natsbridge.subscriber.breaker import DATABASE
from natsbridge.subscriber.dispatch import BatchHandler, all_to, device_messages
from natsbridge.subscriber.intake import DEVICE_STREAMS

AT_ONCE = 100


def replay_requested(runtime: Runtime, registry: Registry) -> float | None:
    """Replay some requested dead letters. Return 0 if there may be more, else None."""
    if not (runtime.in_service.is_set() and DATABASE.admits()):
        return None
    done = store.replay_some(replayer(registry), most=AT_ONCE)
    if done:
        runtime.counters["replays"] += done
    return 0.0 if done >= AT_ONCE else None


def replayer(registry: Registry) -> store.Replay:
    """Return a function that hands a dead letter to the handler of the part that rejected it.

    Where that part is not known, the handler is found by the subject.
    """
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
