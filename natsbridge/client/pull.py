"""A pull consumer read in batches: whatever has arrived is handed over at once.

nats-py's own `fetch` waits out its time when a batch is not full, and can miss that the server
has forgotten its request. Here one request is always open, the server's heartbeats prove it, and
the next is sent when half of it has been used up.
"""

import asyncio
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError

from natsbridge.protocol.envelope import RawMessage

log = structlog.get_logger(__name__)

_HEARTBEAT = 5.0
_SILENT = 2.5 * _HEARTBEAT
_EXPIRES = 30.0
# What one process holds of messages it has not looked at; the rest waits at the server.
_MAX_BYTES = 32 * 1024 * 1024
# What one request brings. The consumers share a connection, two requests of each may be open, and
# a connection for which more waits than the server's `max_pending` is ended.
_REQUEST_BYTES = 2 * 1024 * 1024
# How the server says that a request has brought what it could.
_USED_UP = ("Batch Completed", "Message Size Exceeds MaxBytes")


class PullConsumer:
    """Reads `consumer` of `stream`; survives fresh clients, restarts and a missing stream.

    `on_missing` is awaited when the server says that the consumer does not exist.
    """

    def __init__(
        self, stream: str, consumer: str, *, batch: int, on_missing: Callable[[], Awaitable[None]]
    ) -> None:
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._name = f"{stream}/{consumer}"
        self._batch = batch
        self._on_missing = on_missing
        self._client: Client | None = None
        self._subscription: Subscription | None = None
        self._buffer: deque[Msg] = deque()
        self._buffered_bytes = 0
        self._requested = 0
        self._last_sign = 0.0
        self._heard_at: float | None = None
        self._arrived = asyncio.Event()
        self._patient = True
        self._missing = False

    async def bind(self, client: Client) -> None:
        """Reads over `client` from now on. What an older one had brought comes again."""
        self._client = client
        self._buffer.clear()
        self._buffered_bytes = 0
        self._requested = 0
        self._heard_at = None
        self._subscription = await client.subscribe(
            client.new_inbox(), cb=self._receive, pending_msgs_limit=-1, pending_bytes_limit=-1
        )
        await self._request()
        # Answered at once, whereas the first heartbeat takes its time.
        await self._publish({"batch": 1, "no_wait": True})

    async def batch(self, patience: float) -> list[Msg]:
        """Up to a batch of messages, at once when there are any; empty after `patience` s."""
        if self._missing:
            self._missing = False
            await self._on_missing()
            self._requested = 0
        await self._keep_requested()
        if self._patient and not self._buffer:
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), patience)
            except TimeoutError:
                return []
        taken = [self._buffer.popleft() for _ in range(min(self._batch, len(self._buffer)))]
        self._buffered_bytes -= sum(len(message.data) for message in taken)
        await self._keep_requested()
        return taken

    def stop_waiting(self) -> None:
        """From now on, and for whoever waits already, a batch is what there is."""
        self._patient = False
        self._arrived.set()

    @property
    def waiting(self) -> tuple[Msg, ...]:
        """What has arrived and was not handed over yet."""
        return tuple(self._buffer)

    @property
    def silence(self) -> float | None:
        """Seconds since the server last served this client's requests; None when it does not."""
        return None if self._heard_at is None else time.monotonic() - self._heard_at

    @property
    def is_served(self) -> bool:
        return self.silence is not None and self.silence < _SILENT

    async def stop(self) -> None:
        """Asks for no more. Messages not handed over yet are redelivered to somebody."""
        if self._subscription and self._client and not self._client.is_closed:
            await self._subscription.unsubscribe()
        self._subscription = None

    async def _keep_requested(self) -> None:
        silent = time.monotonic() - self._last_sign > _SILENT
        if silent and self._requested:
            log.warning("pull request went silent, asking again", consumer=self._name)
            self._requested = 0
        room = len(self._buffer) < self._batch and self._buffered_bytes < _MAX_BYTES
        if room and self._requested <= self._batch // 2:
            await self._request()

    async def _request(self) -> None:
        if not (self._client and self._subscription and self._client.is_connected):
            return
        wanted = 2 * self._batch - len(self._buffer) - self._requested
        if wanted <= 0:
            return
        request = {
            "batch": wanted,
            "max_bytes": _REQUEST_BYTES,
            "expires": int(_EXPIRES * 1e9),
            "idle_heartbeat": int(_HEARTBEAT * 1e9),
        }
        self._last_sign = time.monotonic()
        if await self._publish(request):
            self._requested += wanted

    async def _publish(self, request: dict[str, Any]) -> bool:
        if not (self._client and self._subscription):
            return False
        try:
            await self._client.publish(
                self._next, json.dumps(request).encode(), reply=self._subscription.subject
            )
        except NatsError as error:
            log.warning("could not ask for messages", consumer=self._name, error=str(error))
            return False
        return True

    async def _receive(self, message: Msg) -> None:
        self._last_sign = self._heard_at = time.monotonic()
        # By the reply, not the headers: a device may write `Status` into its own.
        if message.reply.startswith("$JS.ACK."):
            self._requested = max(0, self._requested - 1)
            self._buffer.append(message)
            self._buffered_bytes += len(message.data)
            self._arrived.set()
            return
        headers = message.headers or {}
        status, description = headers.get("Status", ""), headers.get("Description", "")
        if (status, description) == ("404", "No Messages"):  # to the request that does not wait
            self._arrived.set()
        elif status != "100":  # anything but a heartbeat ends a request
            self._end_request(status, description, headers.get("Nats-Pending-Messages"))

    def _end_request(self, status: str, description: str, pending: str | None) -> None:
        self._requested = max(0, self._requested - int(pending)) if pending else 0
        if status in ("404", "503") or "Deleted" in description:
            self._missing = True
            self._heard_at = None
        if status not in ("404", "408") and description not in _USED_UP:
            log.info(
                "pull request ended", consumer=self._name, status=status, description=description
            )
        self._arrived.set()


def raw_message(message: Msg) -> RawMessage:
    """Return what a consumer brought as the message that it is."""
    metadata = message.metadata
    return RawMessage(
        message.subject,
        message.data,
        message.headers or {},
        metadata.timestamp,
        metadata.num_delivered or 1,
        metadata.sequence.stream,
    )
