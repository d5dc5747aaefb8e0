"""The whole system: what is started in which order, what each part waits for, and how it stops."""

import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from wegweiser.quickstart.display import Display
from wegweiser.quickstart.errors import SetupFailed
from wegweiser.quickstart.external import (
    nats_problem,
    postgres_problem,
    redis_problem,
    without_password,
)
from wegweiser.quickstart.interruption import Interruption
from wegweiser.quickstart.ports import LOOPBACK
from wegweiser.quickstart.processes import Child, Directories, spawn
from wegweiser.quickstart.readiness import (
    device_exists,
    device_of_agent,
    heartbeat_arrived,
    subscriber_listens,
    tenant_is_provisioned,
    web_is_healthy,
)
from wegweiser.quickstart.servers import Nats, Postgres, Redis, Server
from wegweiser.quickstart.state import Accounts, Ports, Running, Secrets, write_environment

PROJECT = Path(__file__).resolve().parents[2]
MANAGE: tuple[str | Path, ...] = (sys.executable, PROJECT / "manage.py")
AGENT = PROJECT / "devices" / "agent" / "nats_persistent_agent.py"
PREPARE_LIMIT = 120.0
START_LIMIT = 60.0
DRAIN_LIMIT = 15.0
WATCH_INTERVAL = 0.2
# What the agent may see of our environment: it is a device, and no device knows a server's secret.
AGENT_SEES = ("PATH", "LANG", "LC_ALL", "TZ", "HOME", "TMPDIR", "WEGWEISER_DEVICE_NAME")


class Stack:
    """Start it, watch over it, stop it; the caller must stop it however the other two end."""

    def __init__(
        self,
        home: Path,
        given: Mapping[str, str],
        display: Display,
        interruption: Interruption,
    ) -> None:
        """`given`: the environment we were started in."""
        self.home = home
        self.directories = Directories(home)
        self.display = display
        self.interruption = interruption
        self.given = dict(given)
        self.environment = dict(given)
        self._running: list[Child] = []
        self._to_stop = ExitStack()

    def start(self, ports: Ports) -> Running:
        """Returns when everything is up. Raises QuickstartError, Interrupted among them."""
        secrets = Secrets.of_home(self.home)
        postgres = Postgres(self.home, ports.postgres, secrets.postgres_password, check=self.check)
        redis = Redis(self.home, ports.redis, secrets.redis_password, check=self.check)
        configuration = self.home / "nats" / "nats-server.conf"
        nats = Nats(self.home, ports.nats, configuration, ports.nats_monitor, check=self.check)
        self._set_environment(secrets, ports, postgres, redis, nats)

        self._provide("Postgres", "DATABASE_URL", postgres, postgres_problem)
        self._provide("Redis", "REDIS_URL", redis, redis_problem)
        accounts = self._prepare(configuration, ports)
        self._provide("nats-server", "NATS_URL", nats, nats_problem)
        self._start_subscriber(accounts)
        self._start_web(ports.web)
        device = self._start_agent(accounts, ports.web)
        return Running(
            **vars(accounts),
            url=self.environment["PUBLIC_URL"],
            device_uuid=device,
            nats_url=self.environment["NATS_URL"],
            nats_monitor_url=self.environment["NATS_MONITOR_URL"],
        )

    def watch(self) -> None:
        """Never returns. Raises Interrupted, or ChildDied for a part that ended by itself."""
        while True:
            self.check()
            time.sleep(WATCH_INTERVAL)

    def check(self) -> None:
        """Raises Interrupted, or ChildDied for a part that ended by itself."""
        self.interruption.check()
        for child in self._running:
            if not child.alive:
                raise child.died()

    def stop(self) -> None:
        """The last started first."""
        self._running.clear()
        self._to_stop.close()

    def _set_environment(
        self, secrets: Secrets, ports: Ports, postgres: Postgres, redis: Redis, nats: Nats
    ) -> None:
        """What the children's settings read. What was given stays, but for what we decide."""
        own = {
            "SECRET_KEY": secrets.secret_key,
            "FIELD_ENCRYPTION_KEY": secrets.field_encryption_key,
            "AUDIT_KEY": secrets.audit_key,
            "DATABASE_URL": postgres.url,
            "REDIS_URL": redis.url,
            "NATS_URL": nats.url,
            "NATS_MONITOR_URL": nats.monitor_url,
        }
        own |= {name: self.given[name] for name in own if self.given.get(name)}
        own |= {
            "DJANGO_SETTINGS_MODULE": "wegweiser.settings",
            "WEGWEISER_HOME": str(self.home),
            "PUBLIC_URL": f"http://{LOOPBACK}:{ports.web}",
        }
        # For a person's own `manage.py` beside the running system.
        write_environment(self.home / "environment.sh", own)
        given = {name: value for name, value in self.given.items() if value}
        self.environment = {**given, **own, "PYTHONUNBUFFERED": "1"}

    def _provide(
        self, name: str, variable: str, server: Server, problem: Callable[[str], str]
    ) -> None:
        """Use the server that the environment names, waiting for it, or start our own."""
        given = self.given.get(variable)
        if not given:
            with self.display.step(f"Starting {name}"):
                self._to_stop.callback(self._stop, name, server)
                server.start()
            if server.child is not None:
                self._running.append(server.child)
            return
        with self.display.step(f"Waiting for {name} at {without_password(given)} ({variable})"):
            said = ""
            while reason := problem(given):
                if reason != said:
                    self.display.say(reason)
                    said = reason
                self.check()
                time.sleep(0.5)

    def _prepare(self, configuration: Path, ports: Ports) -> Accounts:
        """One Django process for what needs no other part yet, because each costs a second."""
        command = [
            *MANAGE,
            "quickstart_prepare",
            f"--nats-configuration={configuration}",
            f"--nats-port={ports.nats}",
            f"--nats-monitor-port={ports.nats_monitor}",
        ]
        with self.display.step("Preparing the database and the broker's keys"):
            child = self._spawn("prepare", command)
            child.wait_to_end(PREPARE_LIMIT, self.check)
        accounts = Accounts.of_home(self.home)
        if accounts is None:
            raise SetupFailed(f"{Accounts.path(self.home)} is missing")
        return accounts

    def _start_subscriber(self, accounts: Accounts) -> None:
        started = datetime.now(UTC)
        database = self.environment["DATABASE_URL"]
        with self.display.step("Starting the subscriber"):
            child = self._spawn("subscriber", [*MANAGE, "nats_subscriber"], stop_limit=DRAIN_LIMIT)
            child.wait_until(lambda: subscriber_listens(database, started), START_LIMIT, self.check)
            child.wait_until(
                lambda: tenant_is_provisioned(database, accounts.tenant_uuid, started),
                START_LIMIT,
                self.check,
            )
        self._running.append(child)

    def _start_web(self, port: int) -> None:
        command = [*MANAGE, "web", f"--bind={LOOPBACK}", f"--port={port}"]
        with self.display.step("Starting the web"):
            environment = {"DATABASE_POOL_MAX": "10", **self.environment}
            child = self._spawn("web", command, environment)
            child.wait_until(lambda: web_is_healthy(port), START_LIMIT, self.check, interval=0.1)
        self._running.append(child)

    def _start_agent(self, accounts: Accounts, web_port: int) -> str:
        """The device's uuid."""
        configuration = self.home / "agent"
        configuration.mkdir(exist_ok=True)
        # Whatever the umask: the agent refuses a folder that others can write.
        configuration.chmod(0o700)
        environment = {name: value for name, value in self.given.items() if name in AGENT_SEES} | {
            "WEGWEISER_SERVER": self.environment["PUBLIC_URL"],
            "WEGWEISER_GROUP": accounts.group_uuid,
            "WEGWEISER_ENROLLMENT_KEY": accounts.enrollment_key,
            "WEGWEISER_CONFIG_DIR": str(configuration),
            "PYTHONUNBUFFERED": "1",
        }
        device = device_of_agent(configuration)
        if device and not device_exists(web_port, accounts.api_token, device):
            self.display.say("The device of this computer was deleted: it is enrolled again.")
            (configuration / "agent.json").unlink()
        started = time.time()
        with self.display.step("Enrolling this computer and waiting for its first heartbeat"):
            child = self._spawn("agent", [sys.executable, AGENT], environment)
            child.wait_until(
                lambda: heartbeat_arrived(
                    web_port, accounts.api_token, device_of_agent(configuration), started
                ),
                START_LIMIT,
                self.check,
                interval=0.1,
            )
        self._running.append(child)
        return device_of_agent(configuration)

    def _spawn(
        self,
        name: str,
        command: list[str | Path],
        environment: Mapping[str, str] | None = None,
        stop_limit: float = 10.0,
    ) -> Child:
        child = spawn(
            name,
            command,
            self.directories,
            environment=self.environment if environment is None else environment,
            stop_limit=stop_limit,
            working_directory=PROJECT,
        )
        self._to_stop.callback(self._stop, name, child)
        return child

    def _stop(self, name: str, part: Child | Server) -> None:
        if part.alive:
            with self.display.step(f"Stopping {name}"):
                part.stop()
        else:
            # Of one that ended by itself, there is still its process group to see to.
            part.stop()
