"""The websockets of open pages: a device's, and the fleet's.

A page is sent a snapshot when it opens and whenever it asks for one, then frames as they come, and
a sign of life every RENEW_SECONDS, by which its browser knows that the connection still works.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

import redis
import structlog
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from channels.security.websocket import WebsocketDenier
from django.contrib.auth import HASH_SESSION_KEY
from django.contrib.auth.models import AnonymousUser
from django.db import Error as AnyDatabaseError
from django.urls import path, re_path

from devices.live import frames, watchers
from devices.live.open_pages import OpenPages
from devices.models import Device
from natsbridge.errors import DependencyAway
from tenants.access.websockets import record_refused_websocket
from tenants.models import Tenant
from tenants.rights import Login

log = structlog.get_logger(__name__)
open_pages = OpenPages()

P = ParamSpec("P")
R = TypeVar("R")

# Close codes, after the HTTP statuses that they stand for.
LOGIN_NEEDED = 4401
NO_SUCH_DEVICE = 4404
TEXT_ONLY = 4415
TOO_MANY_PAGES = 4429
TRY_AGAIN = 4503

RENEW_SECONDS = 10
# A page that asks for snapshots in a loop gets one each time this has passed.
SNAPSHOT_SECONDS = 1.0


async def _in_thread(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    result: R = await database_sync_to_async(function)(*args, **kwargs)
    return result


class PageConsumer(AsyncJsonWebsocketConsumer):
    """The websocket of any live page: it joins its groups, passes on their frames, and closes when
    its person logs out or may no longer see what it shows."""

    renewal: asyncio.Task[None] | None = None
    # The snapshot that was asked for and is yet to be sent; and when there may be another.
    snapshot: asyncio.Task[None] | None = None
    next_snapshot = 0.0
    login: Login
    route: str

    async def connect(self) -> None:
        self.joined: list[str] = []
        # No frame goes out between the making of a snapshot and its sending, or the page would
        # miss its number.
        self.sending = asyncio.Lock()
        self.person = self.scope.get("user", AnonymousUser())
        await self.accept()
        if not self.person.is_authenticated:
            await self._refuse(LOGIN_NEEDED)
        else:
            await self._or_try_again(self._open_if_allowed())

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve the page, and leave nothing of it behind however it ends."""
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
        await _in_thread(watchers.remove_page, self.person.pk, self.channel_name)
        for group in self.joined:
            await self.channel_layer.group_discard(group, self.channel_name)

    async def receive(
        self, text_data: str | None = None, bytes_data: bytes | None = None, **kwargs: Any
    ) -> None:
        if text_data:
            await super().receive(text_data=text_data)
        elif bytes_data is not None:
            await self.close(TEXT_ONLY)

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        """Send a snapshot on request; one answers all requests that come before it is sent."""
        wanted = isinstance(content, dict) and content.get("type") == "snapshot"
        if wanted and (self.snapshot is None or self.snapshot.done()):
            self.snapshot = asyncio.create_task(self._or_try_again(self._snapshot_in_turn()))

    @classmethod
    async def decode_json(cls, text_data: str) -> Any:
        """Return None for what is not JSON: it asks for nothing."""
        try:
            return await super().decode_json(text_data)
        except (ValueError, RecursionError):
            return None

    async def page_frame(self, event: dict[str, Any]) -> None:
        """Pass on a frame that was published to a group."""
        async with self.sending:
            await self.send(text_data=event["text"])

    async def log_out(self) -> None:
        await self.close(LOGIN_NEEDED)

    async def look_again(self) -> None:
        """Act on a change of the person's rights."""
        await self._or_try_again(self._renew())

    async def _open_if_allowed(self) -> None:
        session = self.scope["session"]
        proof = session.get(HASH_SESSION_KEY, "")
        self.login = Login(session.session_key, self.person.pk, proof)
        if not await open_pages.add(self):
            await self._refuse(LOGIN_NEEDED)
        elif not await _in_thread(watchers.add_page, self.person.pk, self.channel_name):
            await self.close(TOO_MANY_PAGES)
        elif await self._open():
            await self._send_snapshot()
            self.renewal = asyncio.create_task(self._or_try_again(self._renew_for_ever()))

    async def _snapshot_in_turn(self) -> None:
        await asyncio.sleep(max(0.0, self.next_snapshot - time.monotonic()))
        self.next_snapshot = time.monotonic() + SNAPSHOT_SECONDS
        async with self.sending:
            await self._send_snapshot()

    async def _refuse(self, code: int) -> None:
        """Close the page, and record in the audit why."""
        await _in_thread(record_refused_websocket, self.scope, self.route, code - 4000)
        await self.close(code)

    async def _open(self) -> bool:
        """Join the groups of what the page shows. Return False where that closed the page."""
        raise NotImplementedError

    async def _renew(self) -> bool:
        """Keep what the page shows watched. Return False where that closed the page."""
        raise NotImplementedError

    async def _send_snapshot(self) -> None:
        raise NotImplementedError

    async def _join(self, group: str) -> None:
        await self.channel_layer.group_add(group, self.channel_name)
        self.joined.append(group)

    async def _or_try_again(self, work: Coroutine[Any, Any, object]) -> None:
        """Close the page while a server is away; its browser comes back by itself."""
        try:
            await work
        except (redis.RedisError, DependencyAway, AnyDatabaseError, OSError) as error:
            log.warning("live page closed", path=self.scope["path"], error=str(error).strip())
            await self.close(TRY_AGAIN)

    async def _renew_for_ever(self) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            await _in_thread(watchers.renew_page, self.person.pk, self.channel_name)
            if not await self._renew():
                return
            await self.send_json({"type": "alive"})


class DeviceConsumer(PageConsumer):
    """The websocket of a device's page."""

    route = "ws/devices/<uuid:uuid>/"

    async def _open(self) -> bool:
        self.uuid: UUID = self.scope["url_route"]["kwargs"]["uuid"]
        if not await self._is_visible():
            return False
        await self._join(frames.device_group(self.uuid))
        await _in_thread(watchers.watch_device, self.uuid)
        return True

    async def _renew(self) -> bool:
        if not await self._is_visible():
            return False
        await _in_thread(watchers.watch_device, self.uuid)
        return True

    async def _send_snapshot(self) -> None:
        if await self._is_visible():
            await self.send_json(await _in_thread(frames.snapshot, self.uuid))

    async def _is_visible(self) -> bool:
        """Close the page of somebody who may not, or no longer, see the device."""
        if await _in_thread(self._find):
            return True
        await self._refuse(NO_SUCH_DEVICE)
        return False

    def _find(self) -> bool:
        return Device.objects.visible_to(self.person).filter(pk=self.uuid).exists()


class FleetConsumer(PageConsumer):
    """The websocket of the fleet's page, which looks again when told that a device of any of the
    person's tenants has come or gone.

    The rows themselves are the page's own request, with its filters and the person's rights.
    """

    route = "ws/fleet/"

    async def _open(self) -> bool:
        return await self._renew()

    async def _renew(self) -> bool:
        """Follow the person's tenants: join those that were added, leave those that were lost."""
        tenants: list[UUID] = await _in_thread(self._visible_tenants)
        wanted = {frames.fleet_group(tenant) for tenant in tenants}
        for group in set(self.joined) - wanted:
            await self.channel_layer.group_discard(group, self.channel_name)
            self.joined.remove(group)
        for group in wanted - set(self.joined):
            await self._join(group)
        await _in_thread(watchers.watch_fleets, tenants)
        return True

    async def _send_snapshot(self) -> None:
        await self.send_json({"type": "snapshot"})

    def _visible_tenants(self) -> list[UUID]:
        return list(Tenant.objects.visible_to(self.person).values_list("pk", flat=True))


websocket_urlpatterns = [
    path(DeviceConsumer.route, DeviceConsumer.as_asgi()),
    path(FleetConsumer.route, FleetConsumer.as_asgi()),
    # Channels would raise for what it does not find.
    re_path("", WebsocketDenier.as_asgi()),
]
