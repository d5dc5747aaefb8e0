"""The websockets of open pages: a device's, and the fleet's."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

import redis
import structlog
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.contrib.auth import HASH_SESSION_KEY
from django.contrib.auth.models import AnonymousUser
from django.db import Error as AnyDatabaseError

from devices.live import frames
from devices.live.open_pages import OpenPages
from devices.models import Device
from natsbridge.errors import DependencyAway
from tenants.models import Tenant
from tenants.rights import Login

log = structlog.get_logger(__name__)
open_pages = OpenPages()

P = ParamSpec("P")
R = TypeVar("R")

# Close codes, after the HTTP statuses they stand for.
LOGIN_NEEDED = 4401
NO_SUCH_DEVICE = 4404
TEXT_ONLY = 4415
TOO_MANY_PAGES = 4429
TRY_AGAIN = 4503

# Also how soon a status that ages without a message (stale, offline, unknown) is seen.
RENEW_SECONDS = 10
# A page that asks for snapshots in a loop gets one each time this has passed.
SNAPSHOT_SECONDS = 1.0


async def _in_thread(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    result: R = await database_sync_to_async(function)(*args, **kwargs)
    return result


class PageConsumer(AsyncJsonWebsocketConsumer):
    """What the websocket of any page does: hears its groups, and ends when it should."""

    renewal: asyncio.Task[None] | None = None
    # The snapshot that was asked for and is yet to be sent; and when there may be another.
    snapshot: asyncio.Task[None] | None = None
    next_snapshot = 0.0
    login: Login

    async def connect(self) -> None:
        self.groups_heard: list[str] = []
        # No frame goes out between the making of a snapshot and its sending, or the page would
        # miss its number.
        self.sending = asyncio.Lock()
        self.person = self.scope.get("user", AnonymousUser())
        await self.accept()
        if not self.person.is_authenticated:
            await self.close(LOGIN_NEEDED)
        else:
            await self._or_try_again(self._open_if_allowed())

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """However the page ends, nothing of it stays behind."""
        try:
            await super().__call__(scope, receive, send)
        except redis.RedisError as error:
            # Leaving the group, and the channel layer's own last words, need Redis too.
            log.warning("live page ended without Redis", error=str(error))
        finally:
            open_pages.discard(self)
            for task in (self.renewal, self.snapshot):
                if task:
                    task.cancel()

    async def disconnect(self, code: int) -> None:
        await _in_thread(frames.leave, self.person.pk, self.channel_name)
        for group in self.groups_heard:
            await self.channel_layer.group_discard(group, self.channel_name)

    async def receive(
        self, text_data: str | None = None, bytes_data: bytes | None = None, **kwargs: Any
    ) -> None:
        if text_data:
            await super().receive(text_data=text_data)
        elif bytes_data is not None:
            await self.close(TEXT_ONLY)

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        """However often it is asked for meanwhile, the next snapshot answers it all."""
        wanted = isinstance(content, dict) and content.get("type") == "snapshot"
        if wanted and (self.snapshot is None or self.snapshot.done()):
            self.snapshot = asyncio.create_task(self._or_try_again(self._snapshot_in_turn()))

    @classmethod
    async def decode_json(cls, text_data: str) -> Any:
        """What is not JSON is nothing we asked for, and no reason to fall over."""
        try:
            return await super().decode_json(text_data)
        except (ValueError, RecursionError):
            return None

    async def page_frame(self, event: dict[str, Any]) -> None:
        async with self.sending:
            await self.send(text_data=event["text"])

    async def log_out(self) -> None:
        await self.close(LOGIN_NEEDED)

    async def look_again(self) -> None:
        """The person's rights have changed."""
        await self._or_try_again(self._renew())

    async def _open_if_allowed(self) -> None:
        session = self.scope["session"]
        proof = session.get(HASH_SESSION_KEY, "")
        self.login = Login(session.session_key, self.person.pk, proof)
        if not await open_pages.add(self):
            await self.close(LOGIN_NEEDED)
        elif not await self._take_place():
            await self.close(TOO_MANY_PAGES)
        else:
            await self._open()

    async def _take_place(self) -> bool:
        return await _in_thread(frames.take_place, self.person.pk, self.channel_name)

    async def _snapshot_in_turn(self) -> None:
        await asyncio.sleep(max(0.0, self.next_snapshot - time.monotonic()))
        self.next_snapshot = time.monotonic() + SNAPSHOT_SECONDS
        async with self.sending:
            await self._send_snapshot()

    async def _open(self) -> None:
        raise NotImplementedError

    async def _send_snapshot(self) -> None:
        raise NotImplementedError

    async def _renew(self) -> bool:
        """Keeps what is shown watched. False: it closed the page."""
        raise NotImplementedError

    async def _hear(self, group: str) -> None:
        await self.channel_layer.group_add(group, self.channel_name)
        self.groups_heard.append(group)

    def _keep_renewing(self) -> None:
        self.renewal = asyncio.create_task(self._or_try_again(self._renew_for_ever()))

    async def _or_try_again(self, work: Coroutine[Any, Any, object]) -> None:
        """While a server is away the page is closed; its browser comes back by itself."""
        try:
            await work
        except (redis.RedisError, DependencyAway, AnyDatabaseError, OSError) as error:
            path = self.scope["path"]
            log.warning("live page closed", path=path, error=str(error).strip())
            await self.close(TRY_AGAIN)

    async def _renew_for_ever(self) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            await _in_thread(frames.keep_place, self.person.pk, self.channel_name)
            if not await self._renew():
                return


class DeviceConsumer(PageConsumer):
    """Sends a snapshot when it opens and whenever it is asked, then the frames as they come."""

    async def _open(self) -> None:
        self.uuid: UUID = self.scope["url_route"]["kwargs"]["uuid"]
        if await self._device() is None:
            await self.close(NO_SUCH_DEVICE)
            return
        await self._hear(frames.group_of(self.uuid))
        await _in_thread(frames.watch, self.uuid)
        await self._send_snapshot()
        self._keep_renewing()

    async def _renew(self) -> bool:
        """Also ends the page of somebody who may no longer see the device."""
        device = await self._device()
        if device is None:
            await self.close(NO_SUCH_DEVICE)
            return False
        await _in_thread(frames.watch, self.uuid)
        await self.send_json(await _in_thread(frames.connectivity_frame, device))
        return True

    async def _send_snapshot(self) -> None:
        device = await self._device()
        if device is None:
            await self.close(NO_SUCH_DEVICE)
        else:
            await self.send_json(await _in_thread(frames.snapshot, device))

    async def _device(self) -> Device | None:
        return await _in_thread(self._visible_device)

    def _visible_device(self) -> Device | None:
        devices = Device.objects.visible_to(self.person).select_related("connectivity")
        return devices.filter(pk=self.uuid).first()


class FleetConsumer(PageConsumer):
    """Says when a device of any of the person's tenants has come or gone: the page looks again.

    The rows themselves are the page's own request, with its filters and the person's rights."""

    async def _open(self) -> None:
        await self._hear_tenants()
        await self._send_snapshot()
        self._keep_renewing()

    async def _renew(self) -> bool:
        """Also of tenants that the person has come to since, and none that were left."""
        await self._hear_tenants()
        return True

    async def _hear_tenants(self) -> None:
        tenants: list[UUID] = await _in_thread(self._visible_tenants)
        wanted = {frames.fleet_of(tenant) for tenant in tenants}
        for group in set(self.groups_heard) - wanted:
            await self.channel_layer.group_discard(group, self.channel_name)
            self.groups_heard.remove(group)
        for group in wanted - set(self.groups_heard):
            await self._hear(group)
        await _in_thread(frames.watch_fleets, tenants)

    async def _send_snapshot(self) -> None:
        await self.send_json({"type": "snapshot", "seq": 0})

    def _visible_tenants(self) -> list[UUID]:
        return list(Tenant.objects.visible_to(self.person).values_list("pk", flat=True))
