"""What the subscriber does for this app: one line from each kind of message to its action."""

from collections.abc import Sequence

from devices.commands import task as delivery_task
from devices.commands.issue import COMMANDS_CHANNEL
from devices.enrolment import refusals_task, renewal_task
from devices.presence import connection_limit_task, events, heard_task, heartbeats
from devices.presence import task as presence_task
from devices.presence.sessions import CONNECTIONS_CHANNEL, PRESENCE_CHANNEL
from devices.telemetry import intake, reports
from natsbridge.jetstream import streams
from natsbridge.protocol.broker_events import without_secrets
from natsbridge.protocol.envelope import Message, RawMessage
from natsbridge.protocol.subjects import METRIC_PATTERN
from natsbridge.registry import Rejection, registry
from natsbridge.runtime import Runtime
from tenants.credentials.renewals import RENEWALS_CHANNEL


@registry.handler("heartbeat", unreadable=True)
def signs_of_life(messages: Sequence[Message]) -> list[Rejection]:
    return heartbeats.record_heartbeats(messages)


@registry.handler("status", "monitoring", "sysinfo", unreadable=True)
def realtime_data(messages: Sequence[Message]) -> list[Rejection]:
    return reports.record_realtime_data(messages)


@registry.handler("response")
def responses(messages: Sequence[Message]) -> list[Rejection]:
    return reports.record_responses(messages)


@registry.stream_handler(
    "presence",
    stream=streams.BROKER,
    consumer=streams.PRESENCE_WRITER,
    dead_letter_body=without_secrets,
    gather=0.25,
)
def broker_events(messages: Sequence[RawMessage]) -> list[Rejection]:
    return events.record_events(messages)


@registry.side_task("presence sweep", wakes_on=(PRESENCE_CHANNEL,))
async def presence_sweep(runtime: Runtime) -> None:
    await presence_task.watch_presence(runtime)


@registry.side_task("connection limit", wakes_on=(CONNECTIONS_CHANNEL,))
async def connection_limit(runtime: Runtime) -> None:
    await connection_limit_task.limit_connections(runtime)


@registry.side_task("refused logins")
async def refused_logins(runtime: Runtime) -> None:
    await refusals_task.write_refusals(runtime)


@registry.live_handler("metrics", subject=METRIC_PATTERN, queue="metrics")
def metrics(messages: Sequence[RawMessage]) -> list[Rejection]:
    return intake.record(messages)


@registry.side_task("heard")
async def heard(runtime: Runtime) -> None:
    await heard_task.write_heard(runtime)


@registry.side_task("commands", wakes_on=(COMMANDS_CHANNEL,))
async def commands(runtime: Runtime) -> None:
    await delivery_task.deliver(runtime)


@registry.side_task("renewals", wakes_on=(RENEWALS_CHANNEL,))
async def renewals(runtime: Runtime) -> None:
    await renewal_task.tell_to_renew(runtime)
