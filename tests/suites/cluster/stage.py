"""The stage of the faults with a cluster of three in place of the one nats-server."""

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.suites.cluster.nodes import NAMES, Node, leader_among, options_of
from tests.suites.faults.drill import Fault, Kind
from tests.suites.faults.load import Plan
from tests.suites.faults.stage import LIMIT, MANAGE, PROJECT, Part, Stage
from wegweiser.quickstart.processes import Child

STREAM = "INGEST"


@dataclass(frozen=True)
class LeaderKilled(Fault):
    """The server that leads INGEST dies, and stays away for as long as the fault is held."""

    part: str = "nats-server"
    kind: Kind = Kind.KILL

    def __str__(self) -> str:
        return "leader of INGEST: SIGKILL"

    def seconds(self, hold: float) -> float:
        return hold


class ServersPart(Part):
    """All servers of the cluster; what kills it kills the leader alone."""

    def __init__(self, nodes: Sequence[Node], configure: Callable[[], None]) -> None:
        super().__init__(list, ())
        self._nodes = nodes
        self._configure = configure
        self.killed: list[str] = []

    def start(self) -> None:
        """Those that are not running."""
        if not self.children:
            self._configure()
        for node in self._nodes:
            if not node.alive:
                node.launch()
        for node in self._nodes:
            node.wait()
        self.children = [node.child for node in self._nodes if node.child]

    def kill(self) -> None:
        leader = leader_among({node.name: node for node in self._nodes}, STREAM)
        assert leader
        self.killed.append(leader.name)
        leader.kill()


class ClusterStage(Stage):
    """Everybody knows all servers. The network of the stage, which can be cut, is not between
    them and their clients."""

    def __init__(self, *, devices: int, agents: int) -> None:
        super().__init__(devices=devices, agents=agents)
        self._route_ports = [self._port() for _ in NAMES]
        self._nodes = [
            Node(self.home, self._port(), self.home / f"{name}.conf", self._port(), name=name)
            for name in NAMES
        ]
        self.servers = ServersPart(self._nodes, self._configure)
        self.parts["nats-server"] = self.servers

    @property
    def _nats_url(self) -> str:
        return ",".join(node.url for node in self._nodes)

    def _configure(self) -> None:
        environment = self._base() | {"DATABASE_URL": self.database_url}
        for number, node in enumerate(self._nodes):
            directory = self.home / f"nats-{node.name}"
            options = options_of(node.name, node, directory, self._route_ports, number)
            out = f"--out={node.configuration}"
            command = [*MANAGE, "nats_config", *options, out]
            subprocess.run(command, env=environment, cwd=PROJECT, check=True, timeout=LIMIT)

    def _base(self) -> dict[str, str]:
        return super()._base() | {
            "NATS_REPLICAS": "3",
            "NATS_MONITOR_URL": self._nodes[0].monitor_url,
        }

    def _seen_by(self, user: str) -> dict[str, str]:
        urls = {"NATS_URL": self._nats_url, "AGENT_NATS_URL": self._nats_url}
        return super()._seen_by(user) | urls

    def _other(
        self, name: str, command: Sequence[str | Path], environment: dict[str, str]
    ) -> Child:
        if name == "load":
            plan = Path(command[-1])
            replace(Plan.load(plan), nats_url=self._nats_url).save(plan)
        return super()._other(name, command, environment)

    def close(self, *, keep: bool = False) -> None:
        self.servers.kill = self._kill_all  # type: ignore[method-assign]
        super().close(keep=keep)

    def _kill_all(self) -> None:
        for node in self._nodes:
            if node.child is not None:
                node.kill()
