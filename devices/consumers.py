"""The websocket of an open device page."""

import asyncio
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

import redis
import structlog
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.contrib.auth.models import AnonymousUser

from devices import live
from devices.models import Device
from natsbridge.errors import DependencyAway

log = structlog.get_logger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

# Close codes, after the HTTP statuses they stand for.
LOGIN_NEEDED = 4401
NO_SUCH_DEVICE = 4404
TRY_AGAIN = 4503

# Also how soon a status that ages without a message (stale, offline, unknown) is seen.
RENEW_SECONDS = 10


async def _in_thread(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    result: R = await database_sync_to_async(function)(*args, **kwargs)
    return result


class DeviceConsumer(AsyncJsonWebsocketConsumer):
    """Sends a snapshot when it opens and whenever it is asked, then the frames as they come."""

    renewal: asyncio.Task[None] | None = None
    group = ""

    async def connect(self) -> None:
        self.uuid: UUID = self.scope["url_route"]["kwargs"]["uuid"]
        self.person = self.scope.get("user", AnonymousUser())
        await self.accept()
        if not self.person.is_authenticated:
            await self.close(LOGIN_NEEDED)
        elif await self._device() is None:
            await self.close(NO_SUCH_DEVICE)
        else:
            await self._open()

    async def disconnect(self, code: int) -> None:
        if self.renewal:
            self.renewal.cancel()
        if self.group:
            await self.channel_layer.group_discard(self.group, self.channel_name)

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        if isinstance(content, dict) and content.get("type") == "snapshot":
            await self._send_snapshot()

    @classmethod
    async def decode_json(cls, text_data: str) -> Any:
        """What is not JSON is nothing we asked for, and no reason to fall over."""
        try:
            return await super().decode_json(text_data)
        except ValueError:
            return None

    async def device_frame(self, event: dict[str, Any]) -> None:
        await self.send_json(event["frame"])

    async def _open(self) -> None:
        try:
            self.group = live.group_of(self.uuid)
            await self.channel_layer.group_add(self.group, self.channel_name)
            await _in_thread(live.watch, self.uuid)
            await self._send_snapshot()
        except (redis.RedisError, DependencyAway, OSError) as error:
            log.warning("live page waits for Redis", error=str(error))
            await self.close(TRY_AGAIN)
            return
        self.renewal = asyncio.create_task(self._renew())
        self.renewal.add_done_callback(self._renewal_ended)

    async def _renew(self) -> None:
        """Keeps the device watched, and ends the page of somebody who may no longer see it."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            device = await self._device()
            if device is None:
                await self.close(NO_SUCH_DEVICE)
                return
            await _in_thread(live.watch, self.uuid)
            await self.send_json(await _in_thread(live.connectivity_frame, device))

    def _renewal_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            log.error("live page lost its renewal", device=str(self.uuid), exc_info=error)
            self.closing = asyncio.ensure_future(self.close(TRY_AGAIN))

    async def _send_snapshot(self) -> None:
        device = await self._device()
        if device is None:
            await self.close(NO_SUCH_DEVICE)
        else:
            await self.send_json(await _in_thread(live.snapshot, device))

    async def _device(self) -> Device | None:
        return await _in_thread(self._visible_device)

    def _visible_device(self) -> Device | None:
        devices = Device.objects.visible_to(self.person).select_related("connectivity")
        return devices.filter(pk=self.uuid).first()
