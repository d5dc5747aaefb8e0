"""What the person sees: what takes long while it does, and at the end where to go."""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console

from natsbridge.protocol.escaping import plain
from wegweiser.quickstart.state import Running


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Instead of rich's exit, in the middle of whatever is being done."""
        raise


class Display:
    """Spinners on a terminal, plain lines elsewhere.

    A lost terminal or a closed pipe is not an error: what has been started must still be stopped.
    """

    def __init__(self) -> None:
        self._console = _Console(highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        with suppress(OSError):
            self._console.print(plain(text), markup=False)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Something that may take a while; named at once, and with its time when it is done."""
        if not self._console.is_terminal:
            self.say(f"{name} ...")
            yield
            return
        started = time.monotonic()
        spinner = self._console.status(f"{name} …")
        with suppress(OSError):
            spinner.start()
        try:
            yield
        finally:
            with suppress(OSError):
                spinner.stop()
        self.say(f"  {name}  {time.monotonic() - started:.1f} s")

    def running(self, running: Running, home: Path) -> None:
        """The one block to read. Addresses stay on one line, so that they can be clicked on."""
        password = running.admin_password or "(the one you chose)"
        lines = [
            f"Wegweiser is running:  {running.url}",
            f"User:                  {running.admin_username}",
            f"Password:              {password}",
            "",
            "What to try next:",
            f"  This computer, live  {running.url}/devices/{running.device_uuid}/",
            "  On that page         run `ping` or `system_info` and see the result",
            f"  Tenants and keys     {running.url}/admin/",
            f"  The API              {running.url}/api/docs/",
            f"  For scripts          {Running.path(home)}",
            "",
            "Ctrl-C stops everything; the next run goes on where this one left off.",
        ]
        self.say("")
        for line in lines:
            self.say(line)
        self.say("")
