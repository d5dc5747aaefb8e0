"""Log in to the broker that the settings name, waiting no longer than the process goes on."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from django.conf import settings

from natsbridge.client.connection import Connection, connect


@dataclass(frozen=True)
class Login:
    """What a NATS client needs; `seed` is secret."""

    jwt: str = field(repr=False)
    seed: str = field(repr=False)


def connect_as(login: Login, name: str) -> AbstractAsyncContextManager[Connection]:
    """Connect to the servers of the settings; `name` is what they list the connection under."""
    return connect(
        settings.NATS_URL,
        user_jwt=lambda: login.jwt,
        seed=login.seed,
        name=name,
        ca_file=settings.NATS_CA_FILE,
    )


@asynccontextmanager
async def open_unless(
    stopping: asyncio.Event, connecting: AbstractAsyncContextManager[Connection]
) -> AsyncIterator[Connection | None]:
    """Open a connection, or give None when `stopping` is set while there is no server."""
    async with AsyncExitStack() as stack:
        opening = asyncio.ensure_future(stack.enter_async_context(connecting))
        stopped = asyncio.ensure_future(stopping.wait())
        try:
            await asyncio.wait([opening, stopped], return_when=asyncio.FIRST_COMPLETED)
            connection = opening.result() if opening.done() else None
        finally:
            stopped.cancel()
            opening.cancel()
            await asyncio.gather(opening, return_exceptions=True)
        yield connection
