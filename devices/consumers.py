"""The websocket of an open device page."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

import redis
import structlog
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.contrib.auth.models import AnonymousUser
from django.db import Error as AnyDatabaseError

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

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """However the page ends, nothing of it stays behind."""
        try:
            await super().__call__(scope, receive, send)
        except redis.RedisError as error:
            # Leaving the group, and the channel layer's own last words, need Redis too.
            log.warning("live page ended without Redis", error=str(error))
        finally:
            if self.renewal:
                self.renewal.cancel()

    async def disconnect(self, code: int) -> None:
        if self.group:
            await self.channel_layer.group_discard(self.group, self.channel_name)

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        if isinstance(content, dict) and content.get("type") == "snapshot":
            await self._or_try_again(self._send_snapshot())

    @classmethod
    async def decode_json(cls, text_data: str) -> Any:
        """What is not JSON is nothing we asked for, and no reason to fall over."""
        try:
            return await super().decode_json(text_data)
        except ValueError:
            return None

    async def device_frame(self, event: dict[str, Any]) -> None:
        await self.send(text_data=event["text"])

    async def _open(self) -> None:
        self.group = live.group_of(self.uuid)
        await self._or_try_again(self._join())

    async def _join(self) -> None:
        await self.channel_layer.group_add(self.group, self.channel_name)
        await _in_thread(live.watch, self.uuid)
        await self._send_snapshot()
        self.renewal = asyncio.create_task(self._or_try_again(self._renew()))

    async def _or_try_again(self, work: Coroutine[Any, Any, None]) -> None:
        """While a server is away the page is closed; its browser comes back by itself."""
        try:
            await work
        except (redis.RedisError, DependencyAway, AnyDatabaseError, OSError) as error:
            log.warning("live page closed", device=str(self.uuid), error=str(error).strip())
            await self.close(TRY_AGAIN)

    async def _renew(self) -> None:
        """Keeps the device watched, and ends the page of somebody who may no longer see it."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            if not await _in_thread(self._still_logged_in):
                await self.close(LOGIN_NEEDED)
                return
            device = await self._device()
            if device is None:
                await self.close(NO_SUCH_DEVICE)
                return
            await _in_thread(live.watch, self.uuid)
            await self.send_json(await _in_thread(live.connectivity_frame, device))

    def _still_logged_in(self) -> bool:
        """Logging out ends the session, in whichever tab it is done."""
        session = self.scope["session"]
        return bool(session.session_key and session.exists(session.session_key))

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
