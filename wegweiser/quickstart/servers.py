"""Postgres, Redis and nats-server from wheels, as children on 127.0.0.1.

Each server has a home, and in it a data folder, `logs/NAME.log` and `run/NAME.pid`. `start()`
returns when the server answers; `stop()` lets it shut down cleanly.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg
from psycopg import sql

from wegweiser.quickstart.errors import SetupFailed
from wegweiser.quickstart.loopback import get
from wegweiser.quickstart.ports import LOOPBACK
from wegweiser.quickstart.processes import (
    UNPRIVILEGED_USER,
    Child,
    Directories,
    launch_command,
    spawn,
)
from wegweiser.quickstart.wheels import nats_program, postgres_programs, valkey_program

# What a server sees of our environment: PGDATA, LC_MESSAGES and the like are not meant for it.
# The library path is, since some installations of Python, which runs the launcher, need it.
SERVER_ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C.UTF-8"} | {
    name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ
}


def nothing_to_check() -> None:
    """The check of a wait that nobody interrupts."""


@dataclass
class Server(ABC):
    """What the three have in common. `check` is called while waiting and may raise to give up."""

    home: Path
    port: int
    check: Callable[[], None] = field(default=nothing_to_check, kw_only=True)
    child: Child | None = field(default=None, init=False)

    @property
    def directories(self) -> Directories:
        return Directories(self.home)

    @property
    @abstractmethod
    def url(self) -> str:
        """How clients reach it, with the password."""

    @abstractmethod
    def start(self) -> None:
        """Return when it answers. Raises NotInstalled, SetupFailed, ChildDied or NotReady."""

    @property
    def alive(self) -> bool:
        return self.child is not None and self.child.alive

    def stop(self) -> None:
        if self.child is not None:
            self.child.stop()


@dataclass
class Postgres(Server):
    """A Postgres with the superuser and the database `wegweiser`.

    As root it runs as the user nobody, who owns the data folder and nothing else. Without
    `durable` it is quicker and loses data in a crash: for tests.
    """

    password: str
    durable: bool = field(default=True, kw_only=True)

    NAME = "wegweiser"
    START_LIMIT = 60.0

    @property
    def url(self) -> str:
        return f"postgres://{self.NAME}:{self.password}@{LOOPBACK}:{self.port}/{self.NAME}"

    @property
    def data(self) -> Path:
        return self.home / "postgres"

    def start(self) -> None:
        programs = postgres_programs()
        if not self.data.exists():
            self._initialise(programs)
        remove_stale_lock(self.data / "postmaster.pid")
        self.child = spawn(
            "postgres",
            [programs / "postgres", "-D", self.data, *self._settings()],
            self.directories,
            environment=SERVER_ENVIRONMENT,
            stop_signal=signal.SIGINT,
            stop_limit=30.0,
            unprivileged=[self.data],
        )
        self.child.wait_until(self._answers, self.START_LIMIT, self.check)
        self._create_database()

    def _initialise(self, programs: Path) -> None:
        """Make the data folder. It gets its name last, so a half-made one is never used."""
        new = self.data.with_name("postgres.new")
        password_file = self.data.with_name("postgres.password")
        if new.exists():
            shutil.rmtree(new)
        new.mkdir(mode=0o700, parents=True)
        password_file.touch(mode=0o600)
        password_file.write_text(self.password)
        if os.geteuid() == 0:
            account = pwd.getpwnam(UNPRIVILEGED_USER)
            for path in (new, password_file):
                os.chown(path, account.pw_uid, account.pw_gid)
        initdb: list[str | Path] = [
            programs / "initdb",
            f"--pgdata={new}",
            f"--username={self.NAME}",
            f"--pwfile={password_file}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--locale=C",
            # Deriving the key anew takes milliseconds in each of a test run's thousands of log-ins.
            *([] if self.durable else ["--no-sync", "--set=scram_iterations=1"]),
        ]
        try:
            result = subprocess.run(
                launch_command(initdb, unprivileged=[new, password_file]),
                capture_output=True,
                text=True,
                env=SERVER_ENVIRONMENT,
                check=False,
            )
        finally:
            password_file.unlink()
        if result.returncode != 0:
            raise SetupFailed(f"initdb failed:\n{(result.stdout + result.stderr).strip()}")
        new.rename(self.data)

    def _settings(self) -> list[str]:
        settings = {
            "listen_addresses": LOOPBACK,
            "port": str(self.port),
            "unix_socket_directories": "",
            "shared_buffers": "64MB",
            "max_wal_size": "256MB",
            "jit": "off",
            "log_timezone": "UTC",
            "timezone": "UTC",
        }
        if not self.durable:
            settings |= {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
        return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]

    def connect(self, database: str) -> psycopg.Connection[tuple[object, ...]]:
        """An autocommitting connection. Raises psycopg.OperationalError."""
        return psycopg.connect(
            host=LOOPBACK,
            port=self.port,
            user=self.NAME,
            password=self.password,
            dbname=database,
            connect_timeout=5,
            autocommit=True,
        )

    def _answers(self) -> bool:
        with suppress(psycopg.OperationalError), self.connect("postgres"):
            return True
        return False

    def _create_database(self) -> None:
        with self.connect("postgres") as connection:
            names = connection.execute("SELECT datname FROM pg_database").fetchall()
            if (self.NAME,) not in names:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(self.NAME)))


@dataclass
class Redis(Server):
    """A Valkey with a password.

    What it holds (ring buffers, watch sets) may be lost, but charts that survive a restart are
    worth a snapshot at shutdown and, for a crash, every minute. Without `durable` there is none.
    """

    password: str
    durable: bool = field(default=True, kw_only=True)

    START_LIMIT = 30.0

    @property
    def url(self) -> str:
        return f"redis://:{self.password}@{LOOPBACK}:{self.port}/0"

    def start(self) -> None:
        data = self.home / "redis"
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        configuration = data / "valkey.conf"
        configuration.touch(mode=0o600)
        configuration.write_text(self._configuration(data))
        self.child = spawn(
            "redis",
            [valkey_program(), configuration],
            self.directories,
            environment=SERVER_ENVIRONMENT,
        )
        self.child.wait_until(self._answers, self.START_LIMIT, self.check)

    def _configuration(self, data: Path) -> str:
        quoted_data = str(data).replace("\\", "\\\\").replace('"', '\\"')
        snapshots = "60 1" if self.durable else '""'
        return (
            f"bind {LOOPBACK}\n"
            f"port {self.port}\n"
            f"requirepass {self.password}\n"
            f'dir "{quoted_data}"\n'
            f"save {snapshots}\n"
            # With a snapshot that cannot be written it would go on running.
            "shutdown-on-sigterm default force\n"
            "appendonly no\n"
        )

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection((LOOPBACK, self.port), 1) as connection:
            connection.sendall(f"AUTH {self.password}\r\nPING\r\n".encode())
            return connection.recv(1024).startswith(b"+OK")
        return False


@dataclass
class Nats(Server):
    """A nats-server; its configuration file must name the same two ports on 127.0.0.1."""

    configuration: Path
    monitor_port: int
    name: str = field(default="nats-server", kw_only=True)

    START_LIMIT = 30.0

    @property
    def url(self) -> str:
        return f"nats://{LOOPBACK}:{self.port}"

    @property
    def monitor_url(self) -> str:
        return f"http://{LOOPBACK}:{self.monitor_port}"

    def start(self) -> None:
        self.child = spawn(
            self.name,
            [nats_program(), "-c", self.configuration],
            self.directories,
            environment=SERVER_ENVIRONMENT,
        )
        self.child.wait_until(self._answers, self.START_LIMIT, self.check)

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection((LOOPBACK, self.port), 1) as connection:
            return connection.recv(16).startswith(b"INFO") and self._healthy()
        return False

    def _healthy(self) -> bool:
        return get(self.monitor_port, "/healthz").status == 200


def remove_stale_lock(lock: Path) -> None:
    """Remove a crashed Postgres's lock file whose pid now belongs to something else.

    Postgres sees only that the pid is in use, and refuses to start; after a restart of the
    machine or of a container that is not rare.
    """
    with suppress(FileNotFoundError, PermissionError, psutil.NoSuchProcess, ValueError, IndexError):
        owner = psutil.Process(int(lock.read_text().splitlines()[0]))
        if "postgres" not in owner.name():
            lock.unlink()
