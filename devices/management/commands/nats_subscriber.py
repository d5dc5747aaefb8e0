"""Run the subscriber: the process between the broker and everything else."""

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from argparse import ArgumentParser
from functools import partial
from typing import Any

import redis
import structlog
from django.conf import settings
from django.core.management.base import CommandError
from django.db import OperationalError, ProgrammingError, connection
from django.utils.module_loading import autodiscover_modules

from natsbridge.client.login import connect_as
from natsbridge.management.base import PlainCommand
from natsbridge.redis import client
from natsbridge.registry import registry
from natsbridge.subscriber.app import Subscriber, part_names
from tenants.broker.logins import platform_login
from tenants.errors import TenantsError
from tenants.origin import Origin, acting

if sys.platform != "win32":
    from uvloop import run as run_loop
else:
    from asyncio import run as run_loop


log = structlog.get_logger(__name__)


class Command(PlainCommand):
    help = (
        "Receive messages over NATS, store them, update the live pages and send commands. Several "
        "may run at once. On SIGTERM and SIGINT it finishes what it has begun."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--only",
            nargs="+",
            action="extend",
            default=[],
            metavar="PART",
            help="run only these parts, such as `auth`, which checks passwords; parts that have to "
            "run in the same process are added, as `heard` is to `metrics`",
        )

    def handle(self, *args: Any, only: list[str], **options: Any) -> None:
        autodiscover_modules("handlers")
        _check_parts(only)
        _wait_for_database()
        _warn_without_redis()
        try:
            login = platform_login()
        except TenantsError as error:
            raise CommandError(str(error)) from error
        except ProgrammingError as error:
            raise CommandError(f"Run manage.py migrate first. {error}") from error

        before = set(threading.enumerate())
        try:
            with acting(Origin(via="subscriber")):
                connecting = partial(connect_as, login, "wegweiser subscriber")
                run_loop(_run(Subscriber(registry, connecting, only=only)))
        finally:
            _leave_hanging(set(threading.enumerate()) - before)


def _check_parts(only: list[str]) -> None:
    known = part_names(registry)
    unknown = ", ".join(sorted(set(only) - set(known)))
    if unknown:
        raise CommandError(f"Unknown part: {unknown}. Choose from: {', '.join(known)}.")


def _wait_for_database() -> None:
    while True:
        try:
            connection.ensure_connection()
        except OperationalError as error:
            log.warning("waiting for Postgres", error=str(error).strip())
            time.sleep(1)
        else:
            return


def _warn_without_redis() -> None:
    try:
        client(settings.REDIS_URL).ping()
    except redis.RedisError as error:
        log.warning("waiting for Redis", error=str(error))


def _leave_hanging(threads: set[threading.Thread]) -> None:
    """Exit at once if one of the threads hangs, since Python's own exit would wait for it."""
    for thread in threads:
        thread.join(0.5)
    hanging = [thread.name for thread in threads if thread.is_alive() and not thread.daemon]
    if hanging:
        error = sys.exc_info()[1]
        log.warning("leaving threads that hang", threads=hanging, exc_info=error)
        logging.shutdown()
        os._exit(1 if error else 0)


async def _run(subscriber: Subscriber) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await subscriber.run(stop)
