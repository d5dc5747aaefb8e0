"""Postgres NOTIFY as asyncio events: the web saves a row, a subscriber hears of it at once."""

import asyncio
from typing import Any

import psycopg
import structlog
from django.db import connection
from psycopg import sql

log = structlog.get_logger(__name__)


class Wakeups:
    """`await listen()` runs until cancelled; a lost connection costs nothing but the slow poll
    of whoever waits. Every waiter is also woken when a connection is made anew."""

    def __init__(self) -> None:
        self._events: dict[str, list[asyncio.Event]] = {}

    def on(self, channel: str) -> asyncio.Event:
        """A new event that is set at each NOTIFY on `channel`. Call before or while listening."""
        event = asyncio.Event()
        self._events.setdefault(channel, []).append(event)
        return event

    async def listen(self) -> None:
        while True:
            try:
                await self._listen_once()
            except psycopg.OperationalError as error:
                log.warning("waiting for Postgres to listen again", error=str(error).strip())
                await asyncio.sleep(2)

    async def _listen_once(self) -> None:
        listening: set[str] = set()
        async with await psycopg.AsyncConnection.connect(
            autocommit=True, **_parameters()
        ) as listener:
            while True:
                for channel in self._events.keys() - listening:
                    await listener.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
                    listening.add(channel)
                    self._wake(channel)
                async for notice in listener.notifies(timeout=5):
                    self._wake(notice.channel)

    def _wake(self, channel: str) -> None:
        for event in self._events.get(channel, ()):
            event.set()


def _parameters() -> dict[str, Any]:
    settings = connection.settings_dict
    names = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST"}
    parameters = {name: settings[key] for name, key in names.items() if settings[key]}
    if settings["PORT"]:
        parameters["port"] = settings["PORT"]
    options = settings["OPTIONS"]
    return parameters | {
        name: options[name] for name in ("sslmode", "sslrootcert") if name in options
    }
