"""What the subscriber does for this app: one line from each kind of message to its action."""

from collections.abc import Sequence

from devices import delivery_task
from devices.actions import ingest, live_metrics
from devices.actions.commands import COMMANDS_CHANNEL
from natsbridge.envelope import Message, RawMessage
from natsbridge.registry import Rejection, registry
from natsbridge.runtime import Runtime
from natsbridge.subjects import METRIC_PATTERN


@registry.handler("heartbeat")
def heartbeats(messages: Sequence[Message]) -> list[Rejection]:
    return ingest.record_heartbeats(messages)


@registry.handler("status", "monitoring", "sysinfo")
def realtime_data(messages: Sequence[Message]) -> list[Rejection]:
    return ingest.record_realtime_data(messages)


@registry.handler("response")
def responses(messages: Sequence[Message]) -> list[Rejection]:
    return ingest.record_responses(messages)


@registry.live_handler("metrics", subject=METRIC_PATTERN, queue="metrics")
def metrics(messages: Sequence[RawMessage]) -> list[Rejection]:
    return live_metrics.record(messages)


@registry.side_task("commands", wakes_on=(COMMANDS_CHANNEL,))
async def commands(runtime: Runtime) -> None:
    await delivery_task.deliver(runtime)
