"""`manage.py quickstart` from outside, as `make run` starts it."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import psutil

from tests.plugin import allot_port
from tests.support.waiting import SAFETY_NET, eventually
from wegweiser.quickstart.state import Ports, Running, write_private

PROJECT = Path(__file__).resolve().parents[3]


def remember_free_ports(home: Path) -> None:
    """As if an earlier run had had them: the usual ports are for the person at this machine."""
    ports = Ports(*[allot_port() for _ in range(5)])
    write_private(home / "ports.json", asdict(ports))


class Quickstart:
    """One run on a home, with nothing in the environment but what `make run` needs."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._before = self._written_at()
        environment = {
            "PATH": os.defpath,
            "HOME": str(home.parent),
            "WEGWEISER_HOME": str(home),
        }
        self.process = subprocess.Popen(
            [sys.executable, PROJECT / "manage.py", "quickstart"],
            env=environment,
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait_until_up(self) -> dict[str, str]:
        """The content of quickstart.json."""
        path = Running.path(self.home)
        eventually(self._is_up, within=3 * SAFETY_NET)
        self.parts = psutil.Process(self.process.pid).children(recursive=True)
        self.running: dict[str, str] = json.loads(path.read_text())
        return self.running

    def _is_up(self) -> bool:
        assert self.process.poll() is None, self.output()
        return self._written_at() not in (None, self._before)

    def _written_at(self) -> int | None:
        path = Running.path(self.home)
        return path.stat().st_mtime_ns if path.exists() else None

    def pid_of(self, name: str) -> int:
        content = json.loads((self.home / "run" / f"{name}.pid").read_text())
        return int(content["pid"])

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(SAFETY_NET)

    def output(self) -> str:
        """Until it ends."""
        return self.process.communicate(timeout=SAFETY_NET)[0]

    def parts_left(self) -> list[psutil.Process]:
        _, left = psutil.wait_procs(self.parts, timeout=SAFETY_NET)
        return left
