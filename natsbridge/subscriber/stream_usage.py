"""How full the platform's streams are, and who fills them."""

from collections.abc import Mapping
from typing import Any

from nats.errors import Error as NatsError
from nats.js.api import StreamInfo

from natsbridge.errors import InvalidSubject
from natsbridge.jetstream import declaration_settings
from natsbridge.jetstream.declarations import StreamDeclaration
from natsbridge.protocol import subjects
from natsbridge.runtime import Runtime

# Of its own limit: then a device is named.
NEAR = 0.8
# How many are named.
NAMED = 10

Levels = dict[str, dict[str, Any]]


async def measure(runtime: Runtime) -> None:
    """Ask the broker how full each stream is, for the service status."""
    levels: Levels = {}
    for declaration in declaration_settings.all_streams():
        try:
            levels[declaration.name] = await _level(runtime, declaration)
        except NatsError as error:
            levels[declaration.name] = {"error": str(error)[:200] or type(error).__name__}
    runtime.gauges["streams"] = lambda: levels


async def _level(runtime: Runtime, declaration: StreamDeclaration) -> dict[str, Any]:
    jetstream = runtime.connection.client.jetstream()
    info = await jetstream.stream_info(declaration.name)
    limit = info.config.max_msgs_per_subject or 0
    refuses = bool(info.config.discard_new_per_subject)
    # Only then can one subject be near its limit, and only then is the long answer asked for.
    if refuses and limit > 0 and info.state.messages >= limit * NEAR:
        info = await jetstream.stream_info(declaration.name, subjects_filter=">")
    return level(info)


def level(info: StreamInfo) -> dict[str, Any]:
    """Messages, bytes, how full in percent, and what is near its own limit."""
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
        {**_whose(subject), "messages": number, "limit": limit}
        for number, subject in sorted(near, reverse=True)[:NAMED]
    ]


def _whose(subject: str) -> dict[str, str]:
    try:
        parsed = subjects.parse_ingest(subject)
    except InvalidSubject:
        return {"subject": subject}
    return {"tenant": str(parsed.tenant), "device": str(parsed.device), "kind": parsed.kind}
