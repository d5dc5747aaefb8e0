"""The web as its own process, as in production, on the database of this worker's tests."""

import http.client
import os
import socket
import sys
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from email.message import Message

from django.conf import settings
from django.db import connection

from tests.plugin import HOME, POSTGRES, allot_port
from wegweiser.quickstart.processes import Child, Directories, spawn


class Web:
    """A process of `manage.py web` (see `quiet_web`); started again, it has the same port."""

    def __init__(self) -> None:
        self.port = allot_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.child: Child | None = None

    def start(self) -> None:
        database = POSTGRES.url.rpartition("/")[0] + f"/{connection.settings_dict['NAME']}"
        self.child = spawn(
            "web",
            [sys.executable, "-m", "tests.quiet_web", f"--port={self.port}"],
            Directories(HOME),
            environment=os.environ | {"DATABASE_URL": database, "PUBLIC_URL": self.url},
            working_directory=settings.BASE_DIR,
        )
        self.child.wait_until(self._answers, 60)

    def stop(self) -> None:
        if self.child is not None:
            self.child.stop()

    @property
    def log(self) -> str:
        """What it has written since its start."""
        assert self.child is not None
        return self.child.log.read_bytes()[self.child.log_start :].decode(errors="replace")

    def _answers(self) -> bool:
        with suppress(OSError), urllib.request.urlopen(f"{self.url}/login/", timeout=2) as answer:
            return bool(answer.status == 200)
        return False


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Message
    body: bytes


class Wire:
    """A connection on which a test says byte by byte what it sends."""

    def __init__(self, web: Web) -> None:
        self.socket = socket.create_connection(("127.0.0.1", web.port), timeout=60)

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def send_until_refused(self, data: bytes) -> bool:
        """Whether it could be sent whole."""
        try:
            self.send(data)
        except OSError:
            return False
        return True

    def answer(self, method: str = "GET") -> Answer:
        """The next answer; each is read from a buffer of its own, so only one at a time."""
        answer = http.client.HTTPResponse(self.socket, method=method)
        answer.begin()
        return Answer(answer.status, answer.headers, answer.read())

    def is_closed(self) -> bool:
        """Wait for the server to close it."""
        try:
            while self.socket.recv(65_536):
                pass
        except ConnectionResetError:
            pass
        return True
