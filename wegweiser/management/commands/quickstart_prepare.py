"""The part of `quickstart` that needs the database: one process, because each costs a second."""

import dataclasses
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command

from natsbridge.management.base import PlainCommand
from natsbridge.server.config import render
from tenants.broker.accounts import ensure_platform_keys
from tenants.broker.server import server_config
from wegweiser.quickstart.bootstrap import bootstrap
from wegweiser.quickstart.processes import LOG_LIMIT, Directories


class Command(PlainCommand):
    help = (
        "Used by `quickstart`: migrates, makes the first rows and the broker's keys, and writes "
        "the configuration of a nats-server."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--nats-configuration", type=Path, required=True)
        parser.add_argument("--nats-port", type=int, required=True)
        parser.add_argument("--nats-monitor-port", type=int, required=True)

    def handle(
        self,
        *args: Any,
        nats_configuration: Path,
        nats_port: int,
        nats_monitor_port: int,
        **options: Any,
    ) -> None:
        call_command("migrate", interactive=False, verbosity=1, skip_checks=False)
        bootstrap(settings.WEGWEISER_HOME)
        ensure_platform_keys()
        directory = nats_configuration.parent
        directory.mkdir(exist_ok=True)
        configuration = server_config(
            server_name="wegweiser",
            port=nats_port,
            monitor_port=nats_monitor_port,
            directory=directory,
        )
        # The same file that its output goes to, but with a limit while it runs.
        log_file = Directories(settings.WEGWEISER_HOME).logs / "nats-server.log"
        bounded = dataclasses.replace(configuration, log_file=log_file, log_size_limit=LOG_LIMIT)
        nats_configuration.write_text(render(bounded))
