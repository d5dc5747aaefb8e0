"""A cluster of three real nats-servers for tests, from configurations like those of production."""

import io
import json
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command

from tests.plugin import HOME, allot_port
from tests.support.broker import StartNats
from tests.support.system import LoopThread, System, eventually
from tests.support.waiting import SAFETY_NET
from wegweiser.quickstart.ports import LOOPBACK
from wegweiser.quickstart.processes import spawn
from wegweiser.quickstart.servers import SERVER_ENVIRONMENT, Nats
from wegweiser.quickstart.wheels import nats_program

NAMES = ("one", "two", "three")


class Node(Nats):
    """It is healthy only when most of the others are there too."""

    def launch(self) -> None:
        self.child = spawn(
            self.name,
            [nats_program(), "-c", self.configuration],
            self.directories,
            environment=SERVER_ENVIRONMENT,
        )

    def wait(self) -> None:
        assert self.child
        self.child.wait_until(self._answers, self.START_LIMIT)

    def kill(self) -> None:
        assert self.child
        self.child.process.kill()
        self.child.stop()

    def asked(self, page: str) -> Any:
        """A page of its monitoring, such as `/varz`."""
        with urllib.request.urlopen(f"{self.monitor_url}{page}", timeout=SAFETY_NET) as answer:
            return json.load(answer)

    def streams(self) -> list[dict[str, Any]]:
        """What it holds of all accounts' streams; nothing while it is away."""
        if not self.alive:
            return []
        accounts = self.asked("/jsz?streams=true&accounts=true").get("account_details", [])
        return [each for account in accounts for each in account.get("stream_detail", [])]


def leader_among(nodes: Mapping[str, Node], stream: str) -> Node | None:
    """Of this platform stream, as one of those that are up says who is too."""
    for node in nodes.values():
        for each in node.streams():
            leader = nodes.get(each.get("cluster", {}).get("leader", ""))
            if each["name"] == stream and leader is not None and leader.alive:
                return leader
    return None


def options_of(
    name: str, node: Node, directory: Path, route_ports: Sequence[int], number: int
) -> list[str]:
    """What `nats_config` is told for this one of the servers."""
    return [
        f"--server-name={name}",
        f"--port={node.port}",
        f"--monitor-port={node.monitor_port}",
        f"--directory={directory}",
        f"--cluster-listen={LOOPBACK}:{route_ports[number]}",
        f"--routes={','.join(f'{LOOPBACK}:{port}' for port in route_ports)}",
        f"--advertise={LOOPBACK}:{node.port}",
    ]


class Cluster(System):
    """NATS_URL names all its servers, which `nodes` has by their names."""

    def __init__(self, start_nats: StartNats, directory: Path, thread: LoopThread) -> None:
        self._route_ports = [allot_port() for _ in NAMES]
        self.nodes = {
            name: Node(
                HOME,
                port := allot_port(),
                directory / f"{name}.conf",
                allot_port(),
                name=f"nats-server-{name}-{port}",
            )
            for name in NAMES
        }
        super().__init__(start_nats, directory, thread)

    def start_server(self) -> None:
        """All of them."""
        settings.NATS_URL = ",".join(node.url for node in self.nodes.values())
        settings.AGENT_NATS_URL = settings.NATS_URL
        for number, (name, node) in enumerate(self.nodes.items()):
            self._configure(number, name, node)
            node.launch()
        for node in self.nodes.values():
            node.wait()

    def _configure(self, number: int, name: str, node: Node) -> None:
        text = io.StringIO()
        options = options_of(name, node, self._directory / name, self._route_ports, number)
        call_command("nats_config", *options, stdout=text)
        node.configuration.write_text(text.getvalue())

    def leader_of(self, stream: str) -> Node:
        """Of a platform stream, once there is one."""
        return eventually(lambda: leader_among(self.nodes, stream))

    def replicas_of(self, stream: str) -> int:
        """How many servers hold it."""
        held = 0
        for node in self.nodes.values():
            held += any(each["name"] == stream for each in node.streams())
        return held

    def close(self) -> None:
        super().close()
        for node in self.nodes.values():
            if node.child is not None:
                node.child.process.kill()
                node.child.stop()
