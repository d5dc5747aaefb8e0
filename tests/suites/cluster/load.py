"""A device that reports all the while, as an agent does: until it has the acknowledgement."""

import asyncio
import json
import time
from concurrent.futures import Future
from types import TracebackType
from typing import Self

from django.conf import settings
from nats.errors import Error as NatsError

from devices.models import RealtimeData
from natsbridge.client.connection import connect
from natsbridge.protocol.subjects import device_inbox, device_subject
from tests.support.people import Enrolled
from tests.support.system import LoopThread
from tests.support.waiting import SAFETY_NET

# A device may have a hundred.
KINDS = 90
PAUSE = 0.01
PATIENCE = 1.0


class Reporting:
    """`with Reporting(...) as load`: `acknowledged` has the last number of each kind."""

    def __init__(self, thread: LoopThread, enrolled: Enrolled) -> None:
        self._thread = thread
        self._device = enrolled.device
        self._jwt, self._seed = enrolled.jwt, enrolled.key.seed
        self._url = settings.NATS_URL
        self.acknowledged: dict[str, int] = {}
        self.count = 0
        self.longest_wait = 0.0
        self._last = 0.0

    def __enter__(self) -> Self:
        self._stop = asyncio.Event()
        running = asyncio.run_coroutine_threadsafe(self._run(), self._thread.loop)
        self._running: Future[None] = running
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._thread.loop.call_soon_threadsafe(self._stop.set)
        self._running.result(SAFETY_NET)

    async def _run(self) -> None:
        async with connect(
            self._url,
            user_jwt=lambda: self._jwt,
            seed=self._seed,
            name="reporting",
            inbox_prefix=device_inbox(self._device.pk),
        ) as connection:
            subject = device_subject(self._device.tenant_id, self._device.pk, "monitoring")
            self._last = time.monotonic()
            while not self._stop.is_set():
                kind, number = f"k{self.count % KINDS}", self.count
                body = json.dumps({"monitoring_type": kind, "number": number}).encode()
                try:
                    jetstream = connection.client.jetstream(timeout=PATIENCE)
                    await jetstream.publish(subject, body)
                except (NatsError, OSError):
                    await asyncio.sleep(PAUSE)
                    continue
                self.acknowledged[kind] = number
                self.count += 1
                now = time.monotonic()
                self.longest_wait = max(self.longest_wait, now - self._last)
                self._last = now
                await asyncio.sleep(PAUSE)

    @property
    def waits(self) -> float:
        """How long ago the last acknowledgement was."""
        return time.monotonic() - self._last

    def missing(self) -> list[str]:
        """The kinds of which something acknowledged is not in the database."""
        rows = RealtimeData.objects.filter(device=self._device).values_list("kind", "data")
        stored = {kind.removeprefix("monitoring:"): data["number"] for kind, data in rows}
        return [kind for kind, last in self.acknowledged.items() if stored.get(kind, -1) < last]
