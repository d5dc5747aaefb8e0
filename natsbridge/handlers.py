"""Register what the subscriber does for this app."""

from collections.abc import Sequence
from functools import partial

from natsbridge.dead_letters import store
from natsbridge.dead_letters.store import REPLAYS_CHANNEL
from natsbridge.jetstream import declarations
from natsbridge.protocol.envelope import RawMessage
from natsbridge.registry import Rejection, registry
from natsbridge.retention import task as pruning_task
from natsbridge.runtime import Part, Runtime
from natsbridge.subscriber import replay, stream_usage


@registry.stream_handler(
    "dead letters", stream=declarations.DLQ, consumer=declarations.DEAD_LETTER_MIRROR
)
def dead_letters(messages: Sequence[RawMessage]) -> list[Rejection]:
    return store.mirror(messages)


@registry.periodic("replays", every=10.0, wakes_on=REPLAYS_CHANNEL)
def replays(runtime: Runtime) -> float | None:
    return replay.replay_requested(runtime, registry)


# A subscriber that has just started has more urgent work.
@registry.periodic("pruning", first=60.0, every=600.0)
def pruning(runtime: Runtime) -> None:
    pruning_task.prune_daily(runtime)


@registry.side_task("stream usage")
async def measure_streams(part: Part) -> None:
    await part.repeat(partial(stream_usage.measure, part.runtime), every=5.0)
