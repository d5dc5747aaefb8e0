"""What the subscriber does for this app."""

from collections.abc import Sequence

from natsbridge.dead_letters import store
from natsbridge.dead_letters.store import REPLAYS_CHANNEL
from natsbridge.jetstream import streams
from natsbridge.protocol.envelope import RawMessage
from natsbridge.registry import Rejection, registry
from natsbridge.retention import task as pruning_task
from natsbridge.runtime import Runtime
from natsbridge.subscriber import replay, stream_usage


@registry.stream_handler("dead letters", stream=streams.DLQ, consumer=streams.DEAD_LETTER_MIRROR)
def dead_letters(messages: Sequence[RawMessage]) -> list[Rejection]:
    return store.mirror(messages)


@registry.side_task("replays", wakes_on=(REPLAYS_CHANNEL,))
async def replays(runtime: Runtime) -> None:
    await replay.replay_dead_letters(runtime, registry)


@registry.side_task("stream levels")
async def stream_levels(runtime: Runtime) -> None:
    await stream_usage.watch_levels(runtime)


@registry.side_task("pruning")
async def pruning(runtime: Runtime) -> None:
    await pruning_task.prune_daily(runtime)
