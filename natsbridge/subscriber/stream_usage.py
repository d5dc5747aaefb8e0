"""Measure how full the platform's streams are, which devices fill them, and what waits in them."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from nats.errors import Error as NatsError
from nats.js.api import RetentionPolicy, StreamInfo

from natsbridge.errors import InvalidSubject
from natsbridge.jetstream import declaration_settings
from natsbridge.jetstream.declarations import StreamDeclaration
from natsbridge.protocol import subjects
from natsbridge.runtime import Runtime

# A device is named when it uses this part of its own limit.
NEAR = 0.8
# The most devices that are named.
NAMED = 10

Usage = dict[str, Any]


async def measure(runtime: Runtime) -> None:
    """Ask the broker how full each stream is, for the service status."""
    usage: dict[str, Usage] = {}
    consumers: list[Usage] = []
    for declaration in declaration_settings.all_streams():
        try:
            usage[declaration.name] = await _measure_stream(runtime, declaration)
            consumers += await _measure_consumers(runtime, declaration)
        except NatsError as error:
            usage[declaration.name] = {"error": str(error)[:200] or type(error).__name__}
    runtime.gauges["streams"] = lambda: usage
    runtime.gauges["consumers"] = lambda: consumers


async def _measure_consumers(runtime: Runtime, declaration: StreamDeclaration) -> list[Usage]:
    """Return what waits for each consumer, and since when the oldest of it does.

    A work queue has nothing but what waits; of other streams that time is not known.
    """
    client = runtime.connection.client
    answer = await client.request(f"$JS.API.STREAM.INFO.{declaration.name}", timeout=5)
    oldest = json.loads(answer.data)["state"]["first_ts"]
    is_queue = declaration.config.retention is RetentionPolicy.WORK_QUEUE
    measured = []
    for consumer in declaration.consumers:
        info = await client.jetstream().consumer_info(declaration.name, str(consumer.durable_name))
        waiting = (info.num_pending or 0) + (info.num_ack_pending or 0)
        measured.append(
            {
                "stream": declaration.name,
                "consumer": info.name,
                "pending": info.num_pending or 0,
                "unacknowledged": info.num_ack_pending or 0,
                "redelivered": info.num_redelivered or 0,
                "lag_seconds": _age(oldest) if waiting and is_queue else None if waiting else 0.0,
            }
        )
    return measured


def _age(moment: str) -> float:
    """Return the seconds since a time as the broker writes it, with nanoseconds."""
    at = datetime.fromisoformat(moment[:19]).replace(tzinfo=UTC)
    return max(round((datetime.now(UTC) - at).total_seconds(), 1), 0.0)


async def _measure_stream(runtime: Runtime, declaration: StreamDeclaration) -> Usage:
    jetstream = runtime.connection.client.jetstream()
    info = await jetstream.stream_info(declaration.name)
    limit = info.config.max_msgs_per_subject or 0
    refuses = bool(info.config.discard_new_per_subject)
    # Ask for the long answer, with all subjects, only where one may be near its limit.
    if refuses and limit > 0 and info.state.messages >= limit * NEAR:
        info = await jetstream.stream_info(declaration.name, subjects_filter=">")
    return stream_usage(info)


def stream_usage(info: StreamInfo) -> Usage:
    """Return the messages and bytes, the fill in percent, and the devices near their own limit."""
    config, state = info.config, info.state
    shares = [
        state.bytes / config.max_bytes if config.max_bytes and config.max_bytes > 0 else 0,
        state.messages / config.max_msgs if config.max_msgs and config.max_msgs > 0 else 0,
    ]
    return {
        "messages": state.messages,
        "bytes": state.bytes,
        "percent": round(100 * max(shares), 1),
        "near_limit": _near(state.subjects or {}, config.max_msgs_per_subject or 0),
    }


def _near(counts: Mapping[str, int], limit: int) -> list[dict[str, Any]]:
    near = [(number, subject) for subject, number in counts.items() if number >= limit * NEAR]
    return [
        {**_sender(subject), "messages": number, "limit": limit}
        for number, subject in sorted(near, reverse=True)[:NAMED]
    ]


def _sender(subject: str) -> dict[str, str]:
    try:
        parsed = subjects.parse_ingest(subject)
    except InvalidSubject:
        return {"subject": subject}
    return {"tenant": str(parsed.tenant), "device": str(parsed.device), "kind": parsed.kind}
