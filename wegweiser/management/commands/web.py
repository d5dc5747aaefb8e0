"""Serve the pages, the API and the live websockets."""

import resource
from argparse import ArgumentParser
from typing import Any

from django.core.management import CommandError

from natsbridge.management.base import PlainCommand
from wegweiser.asgi import application
from wegweiser.web.server import Server


class Command(PlainCommand):
    help = "Serve the pages, the API and the live websockets until SIGTERM or Ctrl-C."
    # The application checks the settings itself, whichever server runs it.
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--bind", default="127.0.0.1", help="address (default: 127.0.0.1)")
        parser.add_argument("--port", type=int, default=8000, help="port (default: 8000)")

    def handle(self, *, bind: str, port: int, **options: Any) -> None:
        _allow_many_connections()
        server = Server(application, host=bind, port=port)
        server.run()
        if server.abort_start:
            raise CommandError(f"Cannot listen on {bind}:{port}.")


def _allow_many_connections() -> None:
    """As many open files as the system allows, since each idle connection is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
