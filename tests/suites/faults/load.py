"""The load: simulated devices that report, run commands and keep the ledger, and someone who
issues commands all the while. One process, which no fault touches.

    python -m tests.suites.faults.load PLAN.json

After a SIGUSR1 the devices only answer what they were told, and nobody tells them anything new.
"""

import asyncio
import json
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import redis
import uvloop
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from natsbridge.client.connection import Connection, connect
from tests.suites.faults.api import Api
from tests.suites.faults.ledger import Writer

TICK = 0.05
# Whose PubAck says that the platform has it.
PLATFORM_STREAMS = ("INGEST", "LATEST")
# As long as an agent waits for a PubAck before it sends the message again.
PATIENCE = 5.0
AGAIN = 0.5
# A device may have a hundred kinds of data. Each report is the last of its kind for so long that
# a lost one is noticed: 100 devices with 2.7 reports a second, half a minute.
KINDS = 90
OPEN_PAGES = 3
FLUSH = 0.1


@dataclass(frozen=True)
class Credentials:
    """One simulated device. Without `receipts` it is an agent of the plain sort: it says nothing
    before the answer, and remembers nothing."""

    device: str
    tenant: str
    jwt: str
    seed: str
    receipts: bool


@dataclass(frozen=True)
class Plan:
    """What to do, as messages and commands a second of all devices together."""

    nats_url: str
    redis_url: str
    web_port: int
    api_token: str
    ledger: str
    devices: Sequence[Credentials]
    real_devices: Sequence[str]
    beats: float = 260.0
    reports: float = 270.0
    strays: float = 2.0
    metrics: float = 100.0
    commands: float = 8.0
    seed: int = 1

    def at(self, share: float) -> "Plan":
        """The same with so much less to do."""
        names = ("beats", "reports", "strays", "metrics", "commands")
        return replace(self, **{name: getattr(self, name) * share for name in names})

    def save(self, path: Path) -> None:
        path.touch(mode=0o600)
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, path: Path) -> "Plan":
        content = json.loads(path.read_text())
        devices = [Credentials(**each) for each in content.pop("devices")]
        return cls(devices=devices, **content)


class Device:
    """A connection that is kept, numbered messages, and their PubAcks."""

    def __init__(
        self, plan: Plan, credentials: Credentials, ledger: Writer, quiet: threading.Event
    ) -> None:
        self._plan = plan
        self._credentials = credentials
        self._ledger = ledger
        self._quiet = quiet
        self._subject = f"tenant.{credentials.tenant}.device.{credentials.device}"
        self._inbox = f"_INBOX_{credentials.device}"
        self._connection: Connection | None = None
        # What waits for its PubAck: the ledger's line, and since when.
        self._waiting: dict[str, tuple[tuple[object, ...], float]] = {}
        self._stored: dict[str, asyncio.Event] = {}
        self._sent = 0
        self._numbers: Counter[str] = Counter()
        self._known: set[str] = set()
        self._answering: set[asyncio.Task[None]] = set()
        self.counts: Counter[str] = Counter()

    async def run(self, ready: asyncio.Semaphore) -> None:
        async with ready:
            keeping = connect(
                self._plan.nats_url,
                user_jwt=lambda: self._credentials.jwt,
                seed=self._credentials.seed,
                name=f"simulated {self._credentials.device}",
                inbox_prefix=self._inbox,
            )
            connection = await keeping.__aenter__()
        self._connection = connection
        await connection.on_client(self._subscribe)
        await self._report()

    async def _subscribe(self, client: Client) -> None:
        await client.subscribe(f"{self._inbox}.>", cb=self._acknowledged)
        await client.subscribe(f"{self._subject}.command", cb=self._command)

    async def _report(self) -> None:
        share = len(self._plan.devices)
        rates = {
            self._beat: self._plan.beats / share,
            self._monitor: self._plan.reports / share,
            self._stray: self._plan.strays / share,
            self._metric: self._plan.metrics / share,
        }
        owed = {publish: random.random() for publish in rates}  # noqa: S311
        last = time.monotonic()
        heard_last = False
        while True:
            await asyncio.sleep(TICK)
            now = time.monotonic()
            if self._quiet.is_set() and not heard_last:
                # An agent without receipts that has just reconnected gets nothing before it speaks.
                heard_last = True
                await self._beat()
            for publish, rate in rates.items():
                owed[publish] = min(owed[publish] + rate * (now - last), rate + 1)
                while owed[publish] >= 1 and not self._quiet.is_set():
                    owed[publish] -= 1
                    await publish()
            last = now
            self._give_up(now - 2 * PATIENCE)

    def _give_up(self, before: float) -> None:
        """Of these nobody knows whether they are stored."""
        for token in [token for token, (_, since) in self._waiting.items() if since < before]:
            del self._waiting[token]
            self.counts["silent"] += 1

    async def _beat(self) -> None:
        number = self._next("heartbeat")
        body = {
            "agent_version": "simulated",
            "session_id": f"{number} {time.time():.3f}",
            "timestamp": time.time(),
            "capabilities": {"receipts": self._credentials.receipts, "tools": ["probe"]},
            "system_info": {"hostname": self._credentials.device, "note": "y" * 200},
            "status": {"uptime": number},
        }
        await self._offer("heartbeat", body, "beat", self._credentials.device, number)

    async def _monitor(self) -> None:
        number = self._next("report")
        kind = f"k{number % KINDS}"
        body = {"monitoring_type": kind, "number": number}
        await self._offer("monitoring", body, "report", self._credentials.device, kind, number)

    async def _stray(self) -> None:
        command = str(uuid4())
        await self._offer("response", _response(command, "success", command), "stray", command)

    async def _metric(self) -> None:
        body = {"value": random.random(), "timestamp_ms": round(time.time() * 1000)}  # noqa: S311
        subject = f"demo.system.{self._credentials.device}.cpu_percent"
        with suppress(NatsError, OSError):
            await self._client.publish(subject, json.dumps(body).encode())

    def _next(self, what: str) -> int:
        self._numbers[what] += 1
        return self._numbers[what]

    @property
    def _client(self) -> Client:
        assert self._connection
        return self._connection.client

    async def _offer(self, kind: str, body: Any, *line: object) -> str | None:
        """Sends it with a reply subject; the line goes into the ledger with the PubAck."""
        self.counts["offered"] += 1
        self._sent += 1
        token = str(self._sent)
        self._waiting[token] = line, time.monotonic()
        try:
            await self._client.publish(
                f"{self._subject}.{kind}", json.dumps(body).encode(), f"{self._inbox}.{token}"
            )
        except (NatsError, OSError):
            del self._waiting[token]
            return None
        return token

    async def _acknowledged(self, message: Msg) -> None:
        token = message.subject.rpartition(".")[2]
        line, _ = self._waiting.pop(token, ((), 0.0))
        if not line:
            return
        answer = json.loads(message.data) if message.data else {}
        if answer.get("stream") not in PLATFORM_STREAMS or "error" in answer:
            self.counts["refused"] += 1
            return
        self.counts["acknowledged"] += 1
        self._ledger.write(*line)
        if token in self._stored:
            self._stored[token].set()

    async def _command(self, message: Msg) -> None:
        payload = json.loads(message.data)["payload"]
        command = payload["command_id"]
        known = command in self._known
        if self._credentials.receipts:
            self._known.add(command)
        if not known:
            self._ledger.write("ran", command, self._credentials.device)
        task = asyncio.create_task(self._answer(command, payload["parameters"], known=known))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, command: str, parameters: Any, *, known: bool) -> None:
        if self._credentials.receipts:
            await self._until_stored(_response(command, "received"), "receipt", command)
        if not known:
            body = _response(command, "success", parameters.get("token"))
            await self._until_stored(body, "answer", command)

    async def _until_stored(self, body: Any, *line: object) -> None:
        while True:
            token = await self._offer("response", body, *line)
            if token is not None:
                stored = self._stored[token] = asyncio.Event()
                with suppress(TimeoutError):
                    await asyncio.wait_for(stored.wait(), PATIENCE)
                del self._stored[token]
                if stored.is_set():
                    return
            await asyncio.sleep(AGAIN)


def _response(command: str, status: str, result: Any = None) -> dict[str, Any]:
    outcome = {"status": status, "result": result} if result is not None else {"status": status}
    return {"command_id": command, "timestamp": time.time(), "result": outcome}


def issue(plan: Plan, ledger: Writer, quiet: threading.Event) -> None:
    """Commands to everybody, one device in ten a real one. An answer that does not come does no
    harm: the row may be there all the same."""
    api = Api(plan.web_port, plan.api_token)
    choose = random.Random(plan.seed)  # noqa: S311
    simulated = [each.device for each in plan.devices]
    due = time.monotonic()
    while not quiet.wait(max(due - time.monotonic(), 0)):
        due = max(due, time.monotonic() - 1) + 1 / plan.commands
        real = plan.real_devices and choose.random() < 0.1
        device = choose.choice(plan.real_devices if real else simulated)
        if command := api.issue(UUID(device), real=bool(real)):
            ledger.write("issued", command, device)


def keep_pages_open(plan: Plan, quiet: threading.Event) -> None:
    """Some devices are watched, as by open pages, so that their changes go through Redis."""
    client = redis.Redis.from_url(plan.redis_url, socket_timeout=2, socket_connect_timeout=2)
    watched = {each.device: time.time() + 86_400 for each in plan.devices[:OPEN_PAGES]}
    while not quiet.wait(1):
        with suppress(redis.RedisError):
            client.zadd("wegweiser:watched", watched)


async def run(plan: Plan) -> None:
    """Until it is killed."""
    ledger = Writer(Path(plan.ledger))
    quiet = threading.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, quiet.set)
    devices = [Device(plan, each, ledger, quiet) for each in plan.devices]
    # Not all at once: each login costs the server a signature.
    ready = asyncio.Semaphore(10)
    reporting = [asyncio.create_task(device.run(ready)) for device in devices]
    for help_out in (partial(issue, plan, ledger, quiet), partial(keep_pages_open, plan, quiet)):
        threading.Thread(target=help_out, daemon=True).start()
    counted = 0.0
    while True:
        await asyncio.sleep(FLUSH)
        for task in reporting:
            if task.done():
                task.result()
        if time.monotonic() - counted > 0.5:
            counted = time.monotonic()
            total = sum((device.counts for device in devices), Counter())
            words = (total[name] for name in ("offered", "acknowledged", "refused", "silent"))
            ledger.write("count", *words)
        ledger.flush()


if __name__ == "__main__":
    uvloop.run(run(Plan.load(Path(sys.argv[1]))))
