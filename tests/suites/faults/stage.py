"""The real parts as processes of one home, with a network between them that can be cut."""

import os
import random
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import psutil

from natsbridge.identity import nkeys
from tests.suites.faults.api import Api
from tests.suites.faults.load import Credentials, Plan
from tests.suites.faults.proxy import Network, Route
from wegweiser.quickstart.ports import LOOPBACK, accepts_connections, free_port
from wegweiser.quickstart.processes import Child, Directories, spawn
from wegweiser.quickstart.readiness import (
    device_of_agent,
    subscriber_listens,
    tenant_is_provisioned,
    web_is_healthy,
)
from wegweiser.quickstart.servers import Nats, Postgres, Redis, Server
from wegweiser.quickstart.state import Accounts, Secrets

PROJECT = Path(__file__).resolve().parents[3]
AGENT = PROJECT / "devices" / "agent" / "nats_persistent_agent.py"
MANAGE = (sys.executable, PROJECT / "manage.py")
LIMIT = 60.0
# How long silence counts as no answer, of agents that give no receipts. Short, so that a run of
# some minutes sees such commands end.
RESPONSE_SECONDS = 10
# One device in so many is an agent that gives no receipts.
PLAIN = 8
PARTS = ("nats-server", "Redis", "Postgres", "subscriber", "web", "agent")
# Who talks to whom, by way of which port: name of the route, part it leads to, part that uses it.
ROUTES = (
    ("nats.devices", "nats-server", ""),
    ("nats.subscriber", "nats-server", "subscriber"),
    ("nats.agents", "nats-server", "agent"),
    ("postgres.subscriber", "Postgres", "subscriber"),
    ("postgres.web", "Postgres", "web"),
    ("redis.subscriber", "Redis", "subscriber"),
    ("redis.web", "Redis", "web"),
    ("redis.pages", "Redis", ""),
    ("web.people", "web", ""),
    ("web.agents", "web", "agent"),
)
OSQUERY = """#!/bin/sh
printf '%s\\n' "$2" >> {runs}
echo '[{{"ran": 1}}]'
"""


class Part:
    """One or more processes that a fault hits together."""

    def __init__(self, launch: Callable[[], Sequence[Child]], routes: Sequence[str]) -> None:
        self._launch = launch
        self.routes = routes
        self.children: Sequence[Child] = ()

    def start(self) -> None:
        """Of a server: returns when it answers. From the main thread only, since the children
        die with the thread that started them."""
        self.children = self._launch()

    def stop(self) -> None:
        self.resume()
        for child in self.children:
            child.stop()

    def kill(self) -> None:
        """With all descendants: Postgres gives each of its backends a session of its own."""
        processes = self._processes()
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        for child in self.children:
            child.stop()
        psutil.wait_procs(processes, timeout=5)

    def freeze(self) -> None:
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):
                process.suspend()

    def resume(self) -> None:
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):
                process.resume()

    def _processes(self) -> list[psutil.Process]:
        """Parents before their children, so that none is made anew meanwhile."""
        found: list[psutil.Process] = []
        for child in self.children:
            with suppress(psutil.NoSuchProcess):
                parent = psutil.Process(child.process.pid)
                found += [parent, *parent.children(recursive=True)]
        return found


class Stage:
    """Start it; close it however that ended."""

    def __init__(self, *, devices: int, agents: int, share: float = 1.0) -> None:
        """`share`: of the whole load."""
        self.home = Path(tempfile.mkdtemp(prefix="wegweiser-faults-"))
        self.directories = Directories(self.home)
        self.ledger = self.home / "ledger"
        self.osquery_runs = self.home / "osquery.runs"
        self._devices, self._agents, self._share = devices, agents, share
        self._ports: set[int] = set()
        self._secrets = Secrets.of_home(self.home)
        self._postgres = Postgres(self.home, self._port(), self._secrets.postgres_password)
        self._redis = Redis(self.home, self._port(), self._secrets.redis_password)
        self._configuration = self.home / "nats" / "nats-server.conf"
        self._nats = Nats(self.home, self._port(), self._configuration, self._port())
        self._web_port = self._port()
        targets = {
            "nats-server": self._nats.port,
            "Redis": self._redis.port,
            "Postgres": self._postgres.port,
            "web": self._web_port,
        }
        self.network = Network(
            self._port(), [Route(name, self._port(), targets[to]) for name, to, _ in ROUTES]
        )
        launches: dict[str, Callable[[], Sequence[Child]]] = {
            "nats-server": lambda: _launched(self._nats),
            "Redis": lambda: _launched(self._redis),
            "Postgres": lambda: _launched(self._postgres),
            "subscriber": self._launch_subscriber,
            "web": self._launch_web,
            "agent": self._launch_agents,
        }
        self.parts = {
            name: Part(launch, [route for route, *ends in ROUTES if name in ends])
            for name, launch in launches.items()
        }
        self._others: list[Child] = []

    def _port(self) -> int:
        port = free_port(random.SystemRandom().randrange(10_000, 30_000), self._ports)
        self._ports.add(port)
        return port

    @property
    def database_url(self) -> str:
        """Past the network that can be cut: for those who only look."""
        return self._postgres.url

    @property
    def api(self) -> Api:
        return Api(self.network.port("web.people"), self.accounts.api_token)

    def start(self) -> None:
        """Returns when every part works and the load has begun. Raises QuickstartError."""
        environment = self._base() | {
            "DATABASE_URL": self._postgres.url,
            "REDIS_URL": self._redis.url,
            "NATS_URL": self._nats.url,
        }
        self._other("network", self.network.command, {"PATH": os.defpath})
        self.parts["Postgres"].start()
        prepare = self._other(
            "prepare",
            [
                *MANAGE,
                "quickstart_prepare",
                f"--nats-configuration={self._configuration}",
                f"--nats-port={self._nats.port}",
                f"--nats-monitor-port={self._nats.monitor_port}",
            ],
            environment,
        )
        self.parts["Redis"].start()
        prepare.wait_to_end(LIMIT)
        accounts = Accounts.of_home(self.home)
        assert accounts
        self.accounts = accounts
        self.parts["nats-server"].start()
        started = datetime.now(UTC)
        for name in ("subscriber", "web"):
            self.parts[name].start()
        for child in (*self.parts["subscriber"].children, *self.parts["web"].children):
            child.wait_until(lambda: self._serves(started), LIMIT)
        self.parts["agent"].start()
        self.devices = self._register()
        self.real_devices = [self._enrolled(number) for number in range(self._agents)]
        self._start_load()

    def _serves(self, started: datetime) -> bool:
        return (
            subscriber_listens(self.database_url, started)
            and tenant_is_provisioned(self.database_url, self.accounts.tenant_uuid, started)
            and web_is_healthy(self.network.port("web.people"))
        )

    def quieten(self) -> None:
        """From now on devices only answer what they were told."""
        self._load.process.send_signal(signal.SIGUSR1)

    def close(self, *, keep: bool = False) -> None:
        """Nothing here is needed again, so nothing is given time; but Postgres, killed, would
        leave a piece of the system's shared memory behind."""
        for child in self._others:
            _end_child(child)
        for name in reversed(PARTS):
            part = self.parts[name]
            if name == "Postgres":
                part.stop()
            else:
                part.kill()
        if not keep:
            shutil.rmtree(self.home, ignore_errors=True)

    def _base(self) -> dict[str, str]:
        keys = {name.upper(): value for name, value in asdict(self._secrets).items()}
        return {name: value for name, value in keys.items() if name.endswith("_KEY")} | {
            "PATH": os.defpath,
            "HOME": str(self.home),
            "DJANGO_SETTINGS_MODULE": "wegweiser.settings",
            "WEGWEISER_HOME": str(self.home),
            "NATS_MONITOR_URL": self._nats.monitor_url,
            "PUBLIC_URL": f"http://{LOOPBACK}:{self.network.port('web.people')}",
            "COMMAND_RESPONSE_SECONDS": str(RESPONSE_SECONDS),
            "DEAD_LETTER_MESSAGES_MAX": "1000000",
            "PYTHONUNBUFFERED": "1",
        }

    def _seen_by(self, user: str) -> dict[str, str]:
        """The environment of a part that reaches its servers through the network."""
        port = self.network.port
        return self._base() | {
            "DATABASE_URL": self._postgres.url.replace(
                str(self._postgres.port), str(port(f"postgres.{user}"))
            ),
            "REDIS_URL": self._redis.url.replace(
                f":{self._redis.port}/", f":{port(f'redis.{user}')}/"
            ),
            "NATS_URL": f"nats://{LOOPBACK}:{port('nats.subscriber')}",
            "AGENT_NATS_URL": f"nats://{LOOPBACK}:{port('nats.agents')}",
        }

    def _launch_subscriber(self) -> list[Child]:
        command = [*MANAGE, "nats_subscriber"]
        return [self._spawn("subscriber", command, self._seen_by("subscriber"), stop_limit=15.0)]

    def _launch_web(self) -> list[Child]:
        command = [*MANAGE, "web", f"--bind={LOOPBACK}", f"--port={self._web_port}"]
        environment = self._seen_by("web") | {"DATABASE_POOL_MAX": "10"}
        return [self._spawn("web", command, environment)]

    def _launch_agents(self) -> list[Child]:
        return [self._launch_agent(number) for number in range(self._agents)]

    def _launch_agent(self, number: int) -> Child:
        tools = self.home / "tools"
        tools.mkdir(exist_ok=True)
        osquery = tools / "osqueryi"
        osquery.write_text(OSQUERY.format(runs=self.osquery_runs))
        osquery.chmod(0o755)
        environment = {
            "PATH": f"{tools}:{os.defpath}",
            "WEGWEISER_SERVER": f"http://{LOOPBACK}:{self.network.port('web.agents')}",
            "WEGWEISER_GROUP": self.accounts.group_uuid,
            "WEGWEISER_ENROLLMENT_KEY": self.accounts.enrollment_key,
            "WEGWEISER_DEVICE_NAME": f"real-{number}",
            "WEGWEISER_CONFIG_DIR": str(self._agent_folder(number)),
            "PYTHONUNBUFFERED": "1",
        }
        return self._spawn(f"agent-{number}", [sys.executable, AGENT], environment)

    def _agent_folder(self, number: int) -> Path:
        return self.home / f"agent-{number}"

    def _enrolled(self, number: int) -> UUID:
        child = self.parts["agent"].children[number]
        child.wait_until(lambda: bool(device_of_agent(self._agent_folder(number))), LIMIT)
        return UUID(device_of_agent(self._agent_folder(number)))

    def _register(self) -> list[Credentials]:
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(self._register_one, range(self._devices)))

    def _register_one(self, number: int) -> Credentials:
        pair = nkeys.generate("user")
        answer = self.api.register(
            {
                "groupuuid": self.accounts.group_uuid,
                "devicename": f"simulated-{number}",
                "enrollment_key": self.accounts.enrollment_key,
                "nkey_public": pair.public,
            }
        )
        return Credentials(
            device=answer["deviceuuid"],
            tenant=answer["tenant_uuid"],
            jwt=answer["nats_credentials"]["jwt"],
            seed=pair.seed,
            receipts=number % PLAIN != PLAIN - 1,
        )

    def _start_load(self) -> None:
        port = self.network.port
        plan = Plan(
            nats_url=f"nats://{LOOPBACK}:{port('nats.devices')}",
            redis_url=self._redis.url.replace(f":{self._redis.port}/", f":{port('redis.pages')}/"),
            web_port=port("web.people"),
            api_token=self.accounts.api_token,
            ledger=str(self.ledger),
            devices=self.devices,
            real_devices=[str(device) for device in self.real_devices],
        )
        self.ledger.touch()
        self.osquery_runs.touch()
        path = self.home / "plan.json"
        plan.at(self._share).save(path)
        command = [sys.executable, "-m", "tests.suites.faults.load", path]
        self._load = self._other("load", command, {"PATH": os.defpath})
        self._load.wait_until(lambda: b"\nbeat " in self.ledger.read_bytes(), LIMIT)

    def _other(
        self, name: str, command: Sequence[str | Path], environment: dict[str, str]
    ) -> Child:
        child = self._spawn(name, command, environment)
        self._others.append(child)
        if name == "network":
            child.wait_until(lambda: accepts_connections(self.network.control_port), LIMIT)
        return child

    def _spawn(
        self,
        name: str,
        command: Sequence[str | Path],
        environment: dict[str, str],
        stop_limit: float = 10.0,
    ) -> Child:
        return spawn(
            name,
            command,
            self.directories,
            environment=environment,
            stop_limit=stop_limit,
            working_directory=PROJECT,
        )


def _launched(server: Server) -> list[Child]:
    server.start()
    assert server.child
    return [server.child]


def _end_child(child: Child) -> None:
    if child.alive:
        child.process.send_signal(signal.SIGKILL)
    child.stop()
