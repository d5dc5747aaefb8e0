"""`make run`: the whole system on this machine, in the foreground."""

import os
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from django.conf import settings
from django.core.checks import run_checks
from django.core.management.base import CommandError, SystemCheckError

from natsbridge.management.base import PlainCommand
from wegweiser.quickstart.display import Display
from wegweiser.quickstart.errors import Interrupted, QuickstartError
from wegweiser.quickstart.interruption import Interruption
from wegweiser.quickstart.lock import HomeLock
from wegweiser.quickstart.processes import Directories, end_leftovers
from wegweiser.quickstart.stack import Stack
from wegweiser.quickstart.state import Ports, Running, refuse_older_home


class Command(PlainCommand):
    help = (
        "Runs everything in the foreground: Postgres, Redis, nats-server, the web, the subscriber "
        "and an agent for this machine. WEB_PORT and WEGWEISER_HOME choose where; DATABASE_URL, "
        "REDIS_URL and NATS_URL name servers to use instead of our own."
    )
    # Not all of them, since the secrets are yet to be handed to the children.
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        refuse_wrong_settings()
        home = home_for(settings.WEGWEISER_HOME)
        refuse_older(home)
        # What is in it is nobody else's business.
        os.umask(0o077)
        display = Display()
        interruption = Interruption()
        lock = HomeLock(home)
        try:
            with lock.held(interruption.check):
                self._run(Stack(home, os.environ, display, interruption), lock)
        except Interrupted as reason:
            display.say(f"Stopped: {reason}.")
        except QuickstartError as error:
            raise CommandError(str(error)) from error

    def _run(self, stack: Stack, lock: HomeLock) -> None:
        home, display = stack.home, stack.display
        Running.path(home).unlink(missing_ok=True)
        left = end_leftovers(Directories(home))
        if left:
            display.say(f"Ended what an earlier run had left: {', '.join(left)}.")
        ports, notes = Ports.choose(home, web=web_port(), unused=unused_ports())
        for note in notes:
            display.say(note)
        try:
            running = stack.start(ports)
            running.save(home)
            display.running(running, home)
            stack.watch()
        finally:
            lock.say_stopping()
            stack.stop()


def refuse_wrong_settings() -> None:
    """Raises SystemCheckError."""
    serious = [str(message) for message in run_checks(tags=["wegweiser"]) if message.is_serious()]
    if serious:
        raise SystemCheckError("\n".join(["Some settings are wrong:", *serious]))


def home_for(path: Path) -> Path:
    """The folder, made if it is new: private, but for root, whose Postgres must pass through it.

    Raises CommandError.
    """
    try:
        path.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
        with TemporaryFile(dir=path):
            return path
    except OSError as error:
        raise CommandError(
            f"WEGWEISER_HOME is {path}, where nothing can be written: {error.strerror}."
        ) from error


def refuse_older(home: Path) -> None:
    """Raises CommandError."""
    try:
        refuse_older_home(home)
    except QuickstartError as error:
        raise CommandError(str(error)) from error


def web_port() -> int | None:
    """The port wished for with WEB_PORT. Raises CommandError."""
    text = os.environ.get("WEB_PORT", "").strip()
    if not text:
        return None
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise CommandError(f"WEB_PORT is {text!r}: give a number from 1 to 65535.")
    return int(text)


def unused_ports() -> set[str]:
    """The names of the ports of servers that the environment names."""
    ports = {"DATABASE_URL": ["postgres"], "REDIS_URL": ["redis"]}
    ports["NATS_URL"] = ["nats", "nats_monitor"]
    return {name for variable, names in ports.items() if os.environ.get(variable) for name in names}
