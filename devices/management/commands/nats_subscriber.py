"""The process between the broker and everything else."""

import asyncio
import signal
import sys
import time
from contextlib import AbstractAsyncContextManager
from typing import Any

import structlog
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, connection
from django.utils.module_loading import autodiscover_modules

from natsbridge.connection import Connection, connect
from natsbridge.registry import registry
from natsbridge.subscriber import Subscriber
from tenants import broker
from tenants.errors import TenantsError

if sys.platform != "win32":
    from uvloop import run as run_loop
else:
    from asyncio import run as run_loop


log = structlog.get_logger(__name__)


class Command(BaseCommand):
    help = (
        "Consumes NATS: writes the database and the ring buffers, feeds the live pages, sends "
        "commands. Several may run at once. SIGTERM and SIGINT let it finish what it has begun."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        autodiscover_modules("handlers")
        _wait_for_database()
        try:
            login = broker.platform_login()
        except TenantsError as error:
            raise CommandError(str(error)) from error

        def open_connection() -> AbstractAsyncContextManager[Connection]:
            return connect(
                settings.NATS_URL,
                user_jwt=lambda: login.jwt,
                seed=login.seed,
                name="wegweiser subscriber",
            )

        run_loop(_run(Subscriber(registry, open_connection)))


def _wait_for_database() -> None:
    while True:
        try:
            connection.ensure_connection()
        except OperationalError as error:
            log.warning("waiting for Postgres", error=str(error).strip())
            time.sleep(1)
        else:
            return


async def _run(subscriber: Subscriber) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await subscriber.run(stop)
