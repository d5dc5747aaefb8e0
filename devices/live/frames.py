"""Frames for open pages: a device's, and the fleet's. Only what is watched costs anything.

An open page renews its device's (or its tenants') place in a Redis sorted set, scored with the
time it lapses.
"""

import json
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast
from uuid import UUID

import redis
import structlog
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.conf import settings

from devices import representations
from devices.models import Command, Device
from devices.presence.coverage import current_cutoffs
from devices.telemetry import ring_buffers
from natsbridge.redis import client

log = structlog.get_logger(__name__)

WATCH_SECONDS = 30
RESULT_IN_FRAME = 64 * 1024
_WATCHED = "wegweiser:watched"
_WATCHED_FLEETS = "wegweiser:watched-fleets"
Frame = dict[str, Any]


class _Rest:
    """After Redis failed, pages are left alone for a while: a batch must not wait for it anew."""

    seconds = 5.0
    until = 0.0

    def begin(self, error: Exception) -> None:
        self.until = time.monotonic() + self.seconds
        log.warning("live pages wait for Redis", error=str(error))


_resting = _Rest()


def group_of(device: UUID) -> str:
    return f"device.{device}"


def fleet_of(tenant: UUID) -> str:
    return f"fleet.{tenant}"


def watch(device: UUID) -> None:
    """Called by an open page, more often than every WATCH_SECONDS."""
    _renew(_WATCHED, [device])


def watch_fleets(tenants: Collection[UUID]) -> None:
    """Called by an open fleet page, as `watch`."""
    _renew(_WATCHED_FLEETS, tenants)


def _renew(key: str, members: Collection[UUID]) -> None:
    now = time.time()
    pipeline = _redis().pipeline(transaction=False)
    if members:
        pipeline.zadd(key, {str(member): now + WATCH_SECONDS for member in members})
    pipeline.zremrangebyscore(key, "-inf", now)
    pipeline.execute()


def take_place(person: int, page: str) -> bool:
    """Whether this is not one page too many of the person's, in all web processes together."""
    _, _, _, pages = _keep_place(person, page).execute()
    if pages <= settings.LIVE_PAGES_PER_PERSON:
        return True
    leave(person, page)
    return False


def keep_place(person: int, page: str) -> None:
    """Called by an open page, as `watch`; one whose process died makes room after a while."""
    _keep_place(person, page).execute()


def leave(person: int | None, page: str) -> None:
    if person is not None:
        _redis().zrem(_pages_of(person), page)


def _keep_place(person: int, page: str) -> redis.client.Pipeline:
    now, key = time.time(), _pages_of(person)
    pipeline = _redis().pipeline()
    pipeline.zremrangebyscore(key, "-inf", now)
    pipeline.zadd(key, {page: now + WATCH_SECONDS})
    pipeline.expire(key, WATCH_SECONDS)
    pipeline.zcard(key)
    return pipeline


def _pages_of(person: int) -> str:
    return f"wegweiser:open-pages:{person}"


def watched() -> set[UUID]:
    """The devices that some page shows now; empty while Redis is away."""
    return _members(_WATCHED)


def _members(key: str) -> set[UUID]:
    if time.monotonic() < _resting.until:
        return set()
    try:
        members = _redis().zrangebyscore(key, time.time(), "+inf")
    except redis.RedisError as error:
        _resting.begin(error)
        return set()
    return {UUID(str(member, "ascii")) for member in cast(list[bytes], members)}


def snapshot(device: Device) -> Frame:
    """All that a page shows, as of `seq`; the frames after it have the numbers that follow."""
    return {
        "type": "snapshot",
        "seq": int(_redis().get(_sequence(device.pk)) or 0),
        "metrics": ring_buffers.recent(device.pk),
        "connectivity": _connectivity(device),
        "commands": [
            representations.command_summary(row)
            for row in Command.objects.filter(device=device).defer("result")[:20]
        ],
    }


def connectivity_frame(device: Device) -> Frame:
    return {"type": "connectivity", "connectivity": _connectivity(device)}


def _connectivity(device: Device) -> dict[str, Any]:
    """Without `connection_info`, which an agent may make as large as a message."""
    status = representations.status(device, current_cutoffs())
    return {name: value for name, value in status.items() if name != "connection_info"}


def push_metrics(series: ring_buffers.Series) -> None:
    """One frame for each watched device among those of `series`."""
    by_device: dict[UUID, dict[str, Any]] = {}
    visible = watched()
    for (device, metric), points in series.items():
        if device in visible:
            by_device.setdefault(device, {})[metric] = [
                {"timestamp": point.timestamp, "value": point.value} for point in points
            ]
    if by_device:
        _send(_metrics_frames(by_device))


def push_presence(devices: Collection[UUID]) -> None:
    """Some came or went: their pages show it, and so do the fleets they are in."""
    push_connectivity(devices)
    push_fleets(devices)


def push_fleets(devices: Iterable[UUID]) -> None:
    """One frame for each watched tenant that has any of them; it says no more than: look again."""
    changed = list(devices)
    watching = _members(_WATCHED_FLEETS) if changed else set()
    if not watching:
        return
    tenants = Device.objects.filter(pk__in=changed, tenant__in=watching).values_list(
        "tenant", flat=True
    )
    for tenant in tenants.distinct().order_by():
        _send_to(fleet_of(tenant), {"type": "fleet"})


def push_connectivity(devices: Iterable[UUID]) -> None:
    shown = watched().intersection(devices)
    if not shown:
        return
    rows = Device.objects.filter(pk__in=shown).select_related("connectivity")
    _send((row.pk, connectivity_frame(row)) for row in rows)


def push_commands(commands: Sequence[Command]) -> None:
    shown = watched() if commands else set()
    _send(
        (row.device_id, {"type": "command", "command": _small(representations.command(row))})
        for row in commands
        if row.device_id in shown
    )


def _small(command: dict[str, Any]) -> dict[str, Any]:
    """A large result stays out: a websocket frame ends at 1 MiB, and the page fetches results."""
    if len(json.dumps(command["result"])) <= RESULT_IN_FRAME:
        return command
    return {name: value for name, value in command.items() if name != "result"}


def _metrics_frames(by_device: Mapping[UUID, Any]) -> Iterator[tuple[UUID, Frame]]:
    numbers = _next_numbers(by_device)
    for device, values in by_device.items():
        yield device, {"type": "metrics", "seq": numbers[device], "metrics": values}


def _next_numbers(devices: Mapping[UUID, Any]) -> dict[UUID, int]:
    pipeline = _redis().pipeline(transaction=False)
    for device in devices:
        pipeline.incr(_sequence(device))
        pipeline.expire(_sequence(device), 86_400)
    return dict(zip(devices, pipeline.execute()[::2], strict=True))


def _send(frames: Iterable[tuple[UUID, Frame]]) -> None:
    for device, frame in frames:
        _send_to(group_of(device), frame)


def _send_to(group: str, frame: Frame) -> None:
    """A frame that does not get through is made good by the page's next snapshot."""
    if time.monotonic() < _resting.until:
        return
    try:
        # As text: the layer's own encoding knows no integer above 64 bits, JSON does.
        message = {"type": "page.frame", "text": json.dumps(frame)}
        async_to_sync(get_channel_layer().group_send)(group, message)
    except (redis.RedisError, OSError) as error:
        _resting.begin(error)


def _sequence(device: UUID) -> str:
    return f"wegweiser:seq:{device}"


def _redis() -> redis.Redis:
    return client(settings.REDIS_URL)
