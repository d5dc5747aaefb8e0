"""What the subscriber does for this app."""

from collections.abc import Sequence

from natsbridge import levels_task, parking, pruning_task, replay_task, streams
from natsbridge.envelope import RawMessage
from natsbridge.parking import REPLAYS_CHANNEL
from natsbridge.registry import Rejection, registry
from natsbridge.runtime import Runtime


@registry.stream_handler("dead letters", stream=streams.DLQ, consumer=streams.DEAD_LETTER_MIRROR)
def dead_letters(messages: Sequence[RawMessage]) -> list[Rejection]:
    return parking.mirror(messages)


@registry.side_task("replays", wakes_on=(REPLAYS_CHANNEL,))
async def replays(runtime: Runtime) -> None:
    await replay_task.replay_parked(runtime, registry)


@registry.side_task("stream levels")
async def stream_levels(runtime: Runtime) -> None:
    await levels_task.watch_levels(runtime)


@registry.side_task("pruning")
async def pruning(runtime: Runtime) -> None:
    await pruning_task.prune_daily(runtime)
