"""Keep a connection to the broker, whatever happens to the broker.

nats-py's own reconnecting is switched off: it waits without jitter, holds back what is published
meanwhile, and gives up for good when a JWT expires or is revoked. Here every lost connection is
replaced by a new client with a new JWT.
"""

import asyncio
import base64
import random
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import nats.errors
import structlog
from nats.aio.client import Client

from natsbridge.client.tls import trusting
from natsbridge.client.tolerant import TolerantClient
from natsbridge.identity.nkeys import sign

log = structlog.get_logger(__name__)

State = Literal["waiting", "connected", "disconnected", "closed"]
ClientCallback = Callable[[Client], Awaitable[None]]

_FIRST_DELAY = 0.1
_LONGEST_DELAY = 5.0
_STABLE_SECONDS = 10.0
# nats-py does not always report that it has closed: a broken socket can interrupt its clean-up.
_CLOSED_POLL_SECONDS = 0.5
_CONNECT_SECONDS = 5
_PING_SECONDS = 10
_DRAIN_SECONDS = 10
_CLOSE_SECONDS = 2
# Raised for a server that is away, refuses us, or goes away while we subscribe.
_AWAY = (nats.errors.Error, OSError)
_LOST = (nats.errors.StaleConnectionError, OSError)


@asynccontextmanager
async def connect(
    url: str,
    *,
    user_jwt: Callable[[], str],
    seed: str,
    name: str,
    on_state: Callable[[State], None] | None = None,
    on_error: Callable[[Exception], None] | None = None,
    inbox_prefix: str = "_INBOX",
    ca_file: Path | None = None,
) -> AsyncIterator["Connection"]:
    """Open a connection, waiting until there is a server, and keep it for the length of the block.

    `url` may name several servers of one scheme, separated by commas. With `tls` and `wss` the
    server's certificate and name are verified by `ca_file` alone, which is read at each attempt,
    or else by the system's CAs. `user_jwt` is called at each attempt, too.
    `on_state` is called at each change. `on_error` is called with what nats-py reports about a
    connection that stays up, such as a refused subject or a slow consumer; by default it is
    logged. On exit the connection is drained: what was published is sent, what has arrived is
    handled.
    """
    connection = Connection(
        url,
        user_jwt=user_jwt,
        seed=seed,
        name=name,
        on_state=on_state or _ignore_state,
        on_error=on_error or _log_error,
        inbox_prefix=inbox_prefix,
        ca_file=ca_file,
    )
    keeper = asyncio.create_task(connection._keep(), name=f"keep {name} connected")
    connection._keeper = keeper
    try:
        await connection._until_connected()
        yield connection
    finally:
        # Again and again, since nats-py can swallow a cancellation.
        while not keeper.done():
            keeper.cancel()
            await asyncio.wait([keeper], timeout=_CLOSE_SECONDS + 1)
        await connection._drain()
        if not keeper.cancelled():
            keeper.result()


class Connection:
    """A connection that is kept; `connect` opens it."""

    _keeper: asyncio.Task[None]

    def __init__(
        self,
        url: str,
        *,
        user_jwt: Callable[[], str],
        seed: str,
        name: str,
        on_state: Callable[[State], None],
        on_error: Callable[[Exception], None],
        inbox_prefix: str,
        ca_file: Path | None,
    ) -> None:
        self._servers = url.split(",")
        self._user_jwt = user_jwt
        self._seed = seed
        self._name = name
        self._on_state = on_state
        self._on_error = on_error
        self._inbox_prefix = inbox_prefix
        self._ca_file = ca_file
        self._client: Client = TolerantClient()
        self._closed = asyncio.Event()
        self._connected = asyncio.Event()
        self._callbacks: list[ClientCallback] = []
        self._state: State | None = None
        self._problem = ""

    @property
    def client(self) -> Client:
        """The current client; while disconnected its methods raise a nats.errors.Error."""
        return self._client

    @property
    def is_connected(self) -> bool:
        return self._connected.is_set() and self._client.is_connected

    async def on_client(self, callback: ClientCallback) -> None:
        """Call `callback` with the client now, if it is connected, and with each new one.

        A new client has no subscriptions: `callback` makes them. If it fails because of the broker
        or the network, the client is closed and `callback` is called with the next one.
        """
        self._callbacks.append(callback)
        if not self.is_connected:
            return
        try:
            await callback(self._client)
        except _AWAY as error:
            self._waiting(error)
            await _close(self._client)

    async def watch(self) -> None:
        """Wait for ever, and raise the error that ended the keeping of the connection.

        Nothing at the broker can end it, only a programming error in a callback or in `user_jwt`.
        """
        await asyncio.shield(self._keeper)

    async def _until_connected(self) -> None:
        connected = asyncio.create_task(self._connected.wait())
        try:
            await asyncio.wait([connected, self._keeper], return_when=asyncio.FIRST_COMPLETED)
        finally:
            connected.cancel()
        if self._keeper.done():
            self._keeper.result()

    async def _keep(self) -> None:
        delay = _FIRST_DELAY
        while True:
            started = time.monotonic()
            try:
                await self._connect_once()
            except _AWAY as error:
                self._waiting(error)
            else:
                await self._until_closed()
            if time.monotonic() - started > _STABLE_SECONDS:
                delay = _FIRST_DELAY
            # Jitter, so that many subscribers do not come back in the same instant.
            await asyncio.sleep(delay * random.uniform(0.5, 1))  # noqa: S311
            delay = min(delay * 2, _LONGEST_DELAY)

    async def _connect_once(self) -> None:
        client, self._closed = TolerantClient(), asyncio.Event()
        try:
            await self._open(client, self._closed)
            self._client = client
            for callback in self._callbacks:
                await callback(client)
        # A client that has failed half-way keeps its socket and its tasks until it is closed.
        except (*_AWAY, asyncio.CancelledError):
            await _close(client)
            raise
        except BaseException:
            # A cancellation meanwhile must not replace the programming error.
            closing = asyncio.create_task(_close(client))
            with suppress(asyncio.CancelledError):
                await asyncio.shield(closing)
            await closing
            raise
        self._connected.set()
        self._problem = ""
        log.info("connected to nats-server", connection=self._name)
        self._change(to="connected")

    async def _open(self, client: Client, closed: asyncio.Event) -> None:
        problem: Exception | None = None

        async def on_error(error: Exception) -> None:
            nonlocal problem
            if client.is_connected and not isinstance(error, _LOST):
                self._on_error(error)
            else:
                problem = error

        async def on_closed() -> None:
            closed.set()

        try:
            await client.connect(
                servers=self._servers,
                name=self._name,
                user_jwt_cb=lambda: self._user_jwt().encode(),
                signature_cb=lambda nonce: base64.b64encode(sign(self._seed, nonce.encode())),
                inbox_prefix=self._inbox_prefix,
                tls=self._trust(),
                # Otherwise nats-py would believe an unencrypted answer that the server has no TLS.
                tls_handshake_first=self._servers[0].startswith("tls://"),
                error_cb=on_error,
                closed_cb=on_closed,
                allow_reconnect=False,
                # Each server is tried twice, at once, before the attempt counts as failed.
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                connect_timeout=_CONNECT_SECONDS,
                ping_interval=_PING_SECONDS,
                drain_timeout=_DRAIN_SECONDS,
            )
        except nats.errors.NoServersError as error:
            raise problem or error from None

    def _trust(self) -> ssl.SSLContext | None:
        """Return a TLS context, or None to let nats-py make one if the server asks for TLS."""
        if self._ca_file is None and self._servers[0].startswith(("nats://", "ws://")):
            return None
        return trusting(self._ca_file)

    async def _until_closed(self) -> None:
        while not self._client.is_closed:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), _CLOSED_POLL_SECONDS)
        self._connected.clear()
        reason = self._client.last_error
        log.warning("lost nats-server", connection=self._name, reason=str(reason or "closed"))
        self._change(to="disconnected")

    def _waiting(self, error: BaseException) -> None:
        problem = str(error) or type(error).__name__
        if problem != self._problem:
            self._problem = problem
            servers = [urlsplit(server).netloc.rpartition("@")[2] for server in self._servers]
            log.warning(
                "waiting for nats-server", connection=self._name, servers=servers, problem=problem
            )
        self._change(to="waiting")

    def _change(self, *, to: State) -> None:
        if self._state != to:
            self._state = to
            self._on_state(to)

    async def _drain(self) -> None:
        if self._client.is_connected:
            try:
                await self._client.drain()
            except _AWAY as error:
                log.warning("could not drain", connection=self._name, reason=str(error))
                await _close(self._client)
        self._connected.clear()
        self._change(to="closed")


async def _close(client: Client) -> None:
    """Close a client, waiting for it no longer than _CLOSE_SECONDS.

    nats-py flushes a client that it closes, over a socket that may be broken, and waits for ever
    for one whose TLS handshake has failed. It cannot close a client without servers at all, but
    the session of a websocket may be open.
    """
    transport: Any = client._transport
    with suppress(*_AWAY):
        if client.servers:
            await asyncio.wait_for(client.close(), _CLOSE_SECONDS)
        elif transport is not None:
            transport.close()
            await asyncio.wait_for(transport.wait_closed(), _CLOSE_SECONDS)


def _log_error(error: Exception) -> None:
    log.warning("nats-server reported an error", error=str(error))


def _ignore_state(state: State) -> None:
    pass
