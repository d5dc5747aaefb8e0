"""Devices of other tenants, which go on with their work while somebody floods."""

import asyncio
import json
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.errors import APIError

from devices.commands import issue as commands
from devices.models import Command, Connectivity
from tenants.models import User
from tests.support.people import Enrolled
from tests.support.system import Agent, System

PATIENCE = 30.0


@dataclass
class Heartbeats:
    """`refused` are the server's words; `slowest` is the longest wait for a PubAck."""

    acknowledged: int = 0
    slowest: float = 0.0
    refused: list[str] = field(default_factory=list)
    newest: float = 0.0


class Neighbour:
    """It answers every command at once, and sends heartbeats, each with its PubAck, until it is
    told to stop."""

    def __init__(self, system: System, enrolled: Enrolled, *, every: float = 0.5) -> None:
        self._system = system
        self._every = every
        self.device = enrolled.device
        self.agent: Agent = system.agent(enrolled)
        self.heartbeats = Heartbeats()
        self._stopping = False
        system.thread.run(self._listen(self.agent.client))
        self._beating: Future[None] = asyncio.run_coroutine_threadsafe(
            self._beat(), system.thread.loop
        )

    def stop(self) -> None:
        self._stopping = True
        self._beating.result(PATIENCE + 5)

    async def _listen(self, client: Client) -> None:
        async def answer(message: Msg) -> None:
            command = json.loads(message.data)["payload"]["command_id"]
            body = {"command_id": command, "timestamp": time.time()}
            result: dict[str, Any] = {"status": "success", "result": {"pong": True}}
            await client.publish(
                self.agent.subject("response"), json.dumps(body | {"result": result}).encode()
            )

        await client.subscribe(self.agent.subject("command"), cb=answer)
        await client.flush()

    async def _beat(self) -> None:
        jetstream = self.agent.client.jetstream(timeout=PATIENCE)
        while not self._stopping:
            began = time.monotonic()
            body = {"agent_version": "1.0", "session_id": "neighbour", "timestamp": time.time()}
            body |= {"capabilities": {"receipts": True}}
            try:
                await jetstream.publish(self.agent.subject("heartbeat"), json.dumps(body).encode())
            except (APIError, NatsError) as error:
                self.heartbeats.refused.append(str(error) or type(error).__name__)
            else:
                self.heartbeats.acknowledged += 1
                self.heartbeats.newest = body["timestamp"]
            taken = time.monotonic() - began
            self.heartbeats.slowest = max(self.heartbeats.slowest, taken)
            await asyncio.sleep(max(0.0, self._every - taken))

    def command(self, by: User, *, within: float = PATIENCE) -> float:
        """Seconds from a command's issue to its result in the database."""
        began = time.monotonic()
        command = commands.issue(self.device, "ping", {}, by=by)
        rows = Command.objects.filter(pk=command.pk, finished_at__isnull=False)
        eventually_often(rows.exists, within=within)
        return time.monotonic() - began

    def age_of_heartbeat(self) -> float:
        """Seconds since the newest that is stored."""
        row = Connectivity.objects.only("last_heartbeat").get(device=self.device)
        assert row.last_heartbeat
        return time.time() - row.last_heartbeat.timestamp()


def eventually_often(check: Callable[[], bool], *, within: float) -> None:
    deadline = time.monotonic() + within
    while not check():
        assert time.monotonic() < deadline, f"not within {within} s"
        time.sleep(0.004)
