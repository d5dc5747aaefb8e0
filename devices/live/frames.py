"""Push frames to open pages of devices and of the fleet.

A frame carries what the page's JavaScript reads and nothing else. What a page shows in words it
fetches itself, as rendered by the server for its person; a frame says that there is news, and of
which command. A frame's state may be older than the row's by the time it arrives.

While nobody looks, pushing costs one question to Redis. Nothing here reads the rows to push, since
the caller has just written them. The page's next snapshot makes up for a lost frame.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any
from uuid import UUID

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer

from devices.live import watchers
from devices.models import Command, Device
from devices.telemetry import ring_buffers
from devices.telemetry.ring_buffers import LIVE_METRICS

Frame = dict[str, Any]

# How many commands a snapshot holds: those on the first page of the device's history.
_COMMANDS_IN_SNAPSHOT = 20
_SEQUENCE_SECONDS = 86_400


def device_group(device: UUID) -> str:
    return f"device.{device}"


def fleet_group(tenant: UUID) -> str:
    return f"fleet.{tenant}"


def snapshot(device: UUID) -> Frame:
    """Return what a page needs to begin with; the frames of metrics after it count on from `seq`.

    The caller has checked that the person may see the device. Raises DependencyAway.
    """
    commands = Command.objects.filter(device=device).values_list("uuid", "state")
    return {
        "type": "snapshot",
        "seq": int(watchers.store().get(_sequence(device)) or 0),
        "metrics": ring_buffers.recent(device),
        "commands": [_command(*row) for row in commands[:_COMMANDS_IN_SNAPSHOT]],
    }


def push_metrics(series: ring_buffers.Series) -> None:
    """Push the points of those metrics that pages draw, in one frame for each watched device."""
    watched = watchers.watched_devices()
    by_device: dict[UUID, dict[str, Any]] = {}
    for (device, metric), points in series.items():
        if device in watched and metric in LIVE_METRICS:
            by_device.setdefault(device, {})[metric] = [
                {"timestamp": point.timestamp, "value": point.value} for point in points
            ]
    if not by_device:
        return
    with watchers.pause.after_failure():
        numbers = _next_numbers(by_device)
        _send(
            (device_group(device), {"type": "metrics", "seq": numbers[device], "metrics": metrics})
            for device, metrics in by_device.items()
        )


def push_presence(devices: Collection[UUID]) -> None:
    """Push that these devices came or went, to their own pages and to those of their fleets."""
    push_connectivity(devices)
    push_fleets(devices)


def push_connectivity(devices: Iterable[UUID]) -> None:
    """Push that there is news of these devices' connectivity."""
    shown = watchers.watched_devices().intersection(devices)
    _send((device_group(device), {"type": "connectivity"}) for device in shown)


def push_fleets(devices: Iterable[UUID]) -> None:
    """Push to the pages of these devices' fleets that their list has changed."""
    changed = set(devices)
    watched = watchers.watched_fleets() if changed else set()
    if watched:
        found = Device.objects.filter(pk__in=changed, tenant__in=watched).order_by()
        tenants = found.values_list("tenant", flat=True).distinct()
        _send((fleet_group(tenant), {"type": "fleet"}) for tenant in tenants)


def push_details(devices: Collection[UUID]) -> None:
    """Push that people have changed what is recorded about these devices, to the devices' own
    pages and to those of their fleets."""
    shown = watchers.watched_devices().intersection(devices)
    _send((device_group(device), {"type": "details"}) for device in shown)
    push_fleets(devices)


def push_fleet(tenant: UUID) -> None:
    """Push to the pages of the tenant's fleet that something in its list has changed."""
    if tenant in watchers.watched_fleets():
        _send([(fleet_group(tenant), {"type": "fleet"})])


def push_commands(rows: Iterable[Command]) -> None:
    """Push the states of these commands, as `push_states` does."""
    push_states((row.device_id, row.uuid, row.state) for row in rows)


def push_states(changes: Iterable[tuple[UUID, UUID, str]]) -> None:
    """Push the new states of commands, in one frame for each watched device.

    `changes` are of a device, a command of it, and the command's state.
    """
    news = list(changes)
    watched = watchers.watched_devices() if news else set()
    by_device: dict[UUID, dict[UUID, str]] = {}
    for device, command, state in news:
        if device in watched:
            by_device.setdefault(device, {})[command] = state
    _send(
        (
            device_group(device),
            {"type": "commands", "commands": [_command(*each) for each in states.items()]},
        )
        for device, states in by_device.items()
    )


def _command(command: UUID, state: str) -> dict[str, str]:
    return {"command_id": str(command), "state": state}


def _next_numbers(devices: Mapping[UUID, Any]) -> dict[UUID, int]:
    pipeline = watchers.store().pipeline(transaction=False)
    for device in devices:
        pipeline.incr(_sequence(device))
        pipeline.expire(_sequence(device), _SEQUENCE_SECONDS)
    return dict(zip(devices, pipeline.execute()[::2], strict=True))


def _send(frames: Iterable[tuple[str, Frame]]) -> None:
    """Publish each frame to its group; give up all of them while Redis is away."""
    # As text, encoded here once and not by each page.
    messages = [
        (group, {"type": "page.frame", "text": json.dumps(frame)}) for group, frame in frames
    ]
    if messages and not watchers.pause.is_on:
        with watchers.pause.after_failure():
            async_to_sync(_publish)(messages)


async def _publish(messages: Iterable[tuple[str, dict[str, str]]]) -> None:
    """Send all messages in one visit to the event loop."""
    layer = get_channel_layer()
    for group, message in messages:
        await layer.group_send(group, message)


def _sequence(device: UUID) -> str:
    return f"wegweiser:seq:{device}"
