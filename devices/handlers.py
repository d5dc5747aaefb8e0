"""Hand messages and jobs of the subscriber to the actions of this app, one line each."""

from collections.abc import Sequence
from functools import partial

from devices.commands import delivery, expansion
from devices.commands import task as delivery_task
from devices.commands.issue import COMMANDS_CHANNEL
from devices.enrolment import credentials, refused_logins
from devices.presence import connection_limit, connection_limit_task, events, heartbeats
from devices.presence import task as presence_task
from devices.presence.heard import heard as heard_devices
from devices.presence.sessions import CONNECTIONS_CHANNEL, PRESENCE_CHANNEL
from devices.telemetry import intake, reports, responses
from natsbridge.jetstream import declarations
from natsbridge.postgres.locks import Lock
from natsbridge.protocol.broker_events import without_secrets
from natsbridge.protocol.envelope import Message, RawMessage
from natsbridge.protocol.subjects import METRIC_PATTERN
from natsbridge.registry import Rejection, registry
from natsbridge.runtime import Part, Runtime
from tenants.broker.logins import system_login
from tenants.credentials.renewals import RENEWALS_CHANNEL


@registry.handler("heartbeat", unreadable=True)
def heartbeat(messages: Sequence[Message]) -> list[Rejection]:
    return heartbeats.record_heartbeats(messages)


@registry.handler("status", "monitoring", "sysinfo", unreadable=True)
def realtime_data(messages: Sequence[Message]) -> list[Rejection]:
    return reports.record_realtime_data(messages)


@registry.handler("response")
def command_responses(messages: Sequence[Message]) -> list[Rejection]:
    return responses.record_responses(messages)


@registry.stream_handler(
    "presence",
    stream=declarations.BROKER,
    consumer=declarations.PRESENCE_WRITER,
    dead_letter_body=without_secrets,
    gather=0.25,
)
def broker_events(messages: Sequence[RawMessage]) -> list[Rejection]:
    return events.record_events(messages)


@registry.side_task("presence sweep", login=system_login, wakes_on=PRESENCE_CHANNEL)
async def presence_sweep(part: Part) -> None:
    await presence_task.watch_presence(part)


@registry.side_task("connection limit", login=system_login, wakes_on=CONNECTIONS_CHANNEL)
async def end_surplus_connections(part: Part) -> None:
    # The broker's events of the ended connections arrive within half a second.
    end_surplus = partial(connection_limit_task.end_surplus, part)
    await part.repeat(end_surplus, every=10.0, wakes_on=CONNECTIONS_CHANNEL, least=0.5)


@registry.periodic("refused logins", every=15.0, last=5.0, beside=("presence", "connection limit"))
def counts_of_logins(runtime: Runtime) -> None:
    at_once = runtime.stopping.is_set()
    refused_logins.book.flush(at_once=at_once)
    events.connection_events.flush(at_once=at_once)
    connection_limit.limited_devices.flush(at_once=at_once)
    runtime.gauges["refused_logins"] = lambda: refused_logins.book.total


@registry.live_handler("metrics", subject=METRIC_PATTERN, queue="metrics")
def metrics(messages: Sequence[RawMessage]) -> list[Rejection]:
    return intake.record_metrics(messages)


@registry.periodic("heard", every=2.0, beside=("metrics",))
def heard(runtime: Runtime) -> None:
    heard_devices.write()


@registry.side_task("commands", login=system_login, wakes_on=COMMANDS_CHANNEL)
async def commands(part: Part) -> None:
    courier = delivery_task.Courier(part)
    await part.repeat(courier.publish_due, every=2.0, wakes_on=COMMANDS_CHANNEL)


@registry.periodic(
    "command deadlines", every=5.0, lock=Lock.COMMAND_DEADLINES, beside=("commands",)
)
def command_deadlines(runtime: Runtime) -> None:
    delivery.sweep()
    expansion.expand_unfinished()


@registry.periodic("renewals", every=15.0, wakes_on=RENEWALS_CHANNEL, lock=Lock.RENEWALS)
def renewals(runtime: Runtime) -> float | None:
    told = credentials.tell_some_to_renew()
    runtime.counters["renewals.told"] += told
    return credentials.PACE_SECONDS if told else None
