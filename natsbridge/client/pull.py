"""Read a pull consumer in batches, and hand over at once what has arrived.

nats-py's own `fetch` waits for its full time when a batch is not full, and can miss that the server
has forgotten its request. Here one request is always open, the server's heartbeats prove it, and
the next one is sent when half of it has been used up.
"""

import asyncio
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
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
# The most bytes of messages that wait in this process; the rest waits at the server.
_MAX_BYTES = 32 * 1024 * 1024
# The most bytes that one request brings. The consumers share a connection, two requests of each may
# be open, and the server ends a connection for which more than its `max_pending` waits.
_REQUEST_BYTES = 2 * 1024 * 1024
# The server's descriptions of a request that has brought all it could.
_USED_UP = ("Batch Completed", "Message Size Exceeds MaxBytes")


class PullConsumer:
    """Reads `consumer` of `stream`, across new clients, restarts and a missing stream.

    `on_missing` is awaited when the server reports that the consumer does not exist.
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
        """Read over `client` from now on; what an older client had brought comes again."""
        self._client = client
        self._buffer.clear()
        self._buffered_bytes = 0
        self._requested = 0
        self._heard_at = None
        self._subscription = await client.subscribe(
            client.new_inbox(), cb=self._receive, pending_msgs_limit=-1, pending_bytes_limit=-1
        )
        await self._request()
        # The server answers this at once; its first heartbeat comes seconds later.
        await self._publish({"batch": 1, "no_wait": True})

    async def batch(self, patience: float) -> list[Msg]:
        """Return up to a batch of messages, at once if there are any, else after `patience` s."""
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
        """Make `batch` return at once from now on, in a call that waits already too."""
        self._patient = False
        self._arrived.set()

    def is_bound_to(self, client: Client) -> bool:
        return self._subscription is not None and self._client is client

    async def finish(self) -> None:
        """Ask for nothing more; `batch` hands over what the server has sent until now.

        What a lost connection would have brought comes again, like all that is not acknowledged.
        """
        subscription, self._subscription = self._subscription, None
        if subscription:
            with suppress(NatsError):
                await subscription.drain()  # type: ignore[no-untyped-call]
        self._requested = 0
        self._heard_at = None

    @property
    def waiting(self) -> tuple[Msg, ...]:
        """The messages that have arrived and were not handed over yet."""
        return tuple(self._buffer)

    @property
    def silence(self) -> float | None:
        """Seconds since the server last served this client's requests; None if it does not."""
        return None if self._heard_at is None else time.monotonic() - self._heard_at

    @property
    def is_served(self) -> bool:
        return self.silence is not None and self.silence < _SILENT

    async def stop(self) -> None:
        """Unsubscribe. The server redelivers messages that were not handed over yet."""
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
        # Not by the headers: a device may send a header `Status` of its own.
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
    """Convert a message of nats-py that a consumer brought."""
    metadata = message.metadata
    return RawMessage(
        message.subject,
        message.data,
        message.headers or {},
        metadata.timestamp,
        metadata.num_delivered or 1,
        metadata.sequence.stream,
    )
