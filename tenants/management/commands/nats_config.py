"""The nats-server configuration that trusts this installation's operator."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from natsbridge.errors import BridgeError
from natsbridge.server_config import render
from tenants import actions, broker
from tenants.errors import TenantsError


class Command(BaseCommand):
    help = "Prints a nats-server configuration, making the platform's keys when there are none."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--server-name", default="wegweiser")
        parser.add_argument("--port", type=int, default=4222)
        parser.add_argument("--monitor-port", type=int, default=8222)
        parser.add_argument(
            "--directory",
            type=Path,
            default=settings.WEGWEISER_HOME / "nats",
            help="where the server keeps its streams and accounts",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            actions.ensure_platform_keys()
            config = broker.server_config(
                server_name=options["server_name"],
                port=options["port"],
                monitor_port=options["monitor_port"],
                directory=options["directory"].resolve(),
            )
            self.stdout.write(render(config))
        except (TenantsError, BridgeError) as error:
            raise CommandError(str(error)) from error
