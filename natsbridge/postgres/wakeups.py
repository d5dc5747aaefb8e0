"""Turn Postgres NOTIFY into asyncio events, so that a subscriber hears at once of a new row."""

import asyncio
from collections.abc import Iterable
from typing import Any
from weakref import WeakSet

import psycopg
import structlog
from django.db import connection
from psycopg import sql

log = structlog.get_logger(__name__)

# The options of Django's connection that the listener needs as well.
_OPTIONS = (
    *("sslmode", "sslrootcert", "connect_timeout"),
    *("keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout"),
)


def notify(channel: str, payload: str = "") -> None:
    """Wake those that listen on `channel`, once the caller's transaction is committed."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, %s)", [channel, payload])


class Wakeups:
    """Sets events at notifications, while `listen` runs, until it is cancelled.

    All events are also set whenever the connection is made anew, since notifications may have been
    lost meanwhile.
    """

    def __init__(self, channels: Iterable[str]) -> None:
        # Weak, so that the event of a task that died goes with it.
        self._events: dict[str, WeakSet[asyncio.Event]] = {
            channel: WeakSet() for channel in channels
        }

    def on(self, channel: str) -> asyncio.Event:
        """Return a new event that is set at each NOTIFY on `channel` while the caller keeps it.

        Raise KeyError for a channel that is not listened to.
        """
        event = asyncio.Event()
        self._events[channel].add(event)
        return event

    async def listen(self) -> None:
        while True:
            try:
                await self._listen_once()
            except psycopg.OperationalError as error:
                log.warning("waiting for Postgres to listen again", error=str(error).strip())
                await asyncio.sleep(2)

    async def _listen_once(self) -> None:
        async with await psycopg.AsyncConnection.connect(
            autocommit=True, **_parameters()
        ) as listener:
            for channel in self._events:
                await listener.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
                self._wake(channel)
            async for notice in listener.notifies():
                self._wake(notice.channel)

    def _wake(self, channel: str) -> None:
        for event in self._events[channel]:
            event.set()


def _parameters() -> dict[str, Any]:
    settings = connection.settings_dict
    names = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST"}
    parameters = {name: settings[key] for name, key in names.items() if settings[key]}
    if settings["PORT"]:
        parameters["port"] = settings["PORT"]
    options = settings["OPTIONS"]
    return parameters | {name: options[name] for name in _OPTIONS if name in options}
