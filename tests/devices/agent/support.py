"""What stands around the agent under test: the server's two endpoints, the platform's side of a
real broker, and the agent itself as a process."""

import base64
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from nats.js.errors import NotFoundError

from natsbridge.identity import claims, nkeys
from natsbridge.protocol import subjects
from natsbridge.server.config import ServerTLS
from tests.support import waiting
from tests.support.broker import Broker, Peer, Tenant
from tests.support.waiting import SAFETY_NET
from wegweiser.quickstart.ports import LOOPBACK

AGENT = Path(__file__).parents[3] / "devices" / "agent" / "nats_persistent_agent.py"
ENROLLMENT_KEY = "correct-horse-battery-staple"

JsonObject = dict[str, Any]

# The query says what to do; each run leaves a line.
FAKE_OSQUERY = """#!/bin/sh
echo "$2" >> "$OSQUERY_RUNS"
case "$2" in
  *short*) sleep 1;;
  *held*) while [ -e "$OSQUERY_RUNS-held" ]; do sleep 0.05; done;;
  *long*) sleep 30;;
  *flood*) head -c 9000000 /dev/zero | tr '\\0' x;;
  *huge*) printf '['; yes '{"answer": "42"},' | head -n 60000; echo '{}]'; exit 0;;
  *broken*) echo "no such table" >&2; exit 1;;
esac
echo '[{"answer": "42"}]'
"""


@dataclass
class Registration:
    """A device as the fake server knows it."""

    uuid: UUID
    nkey_public: str
    token: str
    body: JsonObject


@dataclass
class FakeServer:
    """The register and credentials endpoints, which check what the real ones check.

    `refusals` are answers (status, problem details) given before all others, one a request;
    `lifetime` is that of the JWTs in seconds.
    """

    tenant: Tenant
    nats_url: str
    lifetime: float = 7 * 86_400
    refusals: list[tuple[int, JsonObject]] = field(default_factory=list)
    on_register: Callable[[], None] = lambda: None
    devices: dict[str, Registration] = field(default_factory=dict)
    proofs: dict[str, int] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    last_issued: int = 0
    group: UUID = field(default_factory=uuid4)
    tls: ServerTLS | None = None

    def __post_init__(self) -> None:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self._answer(lambda: fake.register(body))

            def do_GET(self) -> None:
                token = self.headers.get("Authorization", "")
                self._answer(lambda: fake.credentials(token))

            def log_message(self, *_: object) -> None:
                """Say nothing."""

            def _answer(self, answer: Callable[[], tuple[int, JsonObject]]) -> None:
                fake.requests.append(f"{self.command} {self.path}")
                status, content = fake.refusals.pop(0) if fake.refusals else answer()
                text = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

        self._http = ThreadingHTTPServer((LOOPBACK, 0), Handler)
        if self.tls is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(self.tls.certificate, self.tls.key)
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,))
        self._thread.start()
        scheme = "http" if self.tls is None else "https"
        self.url = f"{scheme}://{LOOPBACK}:{self._http.server_port}"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def register(self, body: JsonObject) -> tuple[int, JsonObject]:
        self.on_register()
        if body["enrollment_key"] != ENROLLMENT_KEY:
            return 401, {"title": "Unauthorized", "detail": "The enrolment key is unknown."}
        public, timestamp = body["nkey_public"], body["timestamp"]
        signature = base64.b64decode(body["signature"] + "==", altchars=b"-_", validate=True)
        proof = f"enroll:{self.group}:{public}:{timestamp}".encode()
        fresh = isinstance(timestamp, int) and abs(time.time() - timestamp) < 300
        if not fresh or not nkeys.verify(public, proof, signature):
            return 401, {"title": "Unauthorized", "detail": "The signature is wrong."}
        if timestamp <= self.proofs.get(public, 0):
            return 401, {"title": "Unauthorized", "detail": "The signature was used before."}
        self.proofs[public] = timestamp
        known = self.devices.get(public)
        registration = Registration(known.uuid if known else uuid4(), public, str(uuid4()), body)
        self.devices[public] = registration
        return (200 if known else 201), {
            "success": True,
            "deviceuuid": str(registration.uuid),
            "tenant_uuid": str(self.tenant.uuid),
            "device_token": registration.token,
            "nats_credentials": self._credentials(registration),
        }

    def credentials(self, authorization: str) -> tuple[int, JsonObject]:
        for device in self.devices.values():
            if authorization == f"Bearer {device.token}":
                return 200, {
                    "success": True,
                    "device_uuid": str(device.uuid),
                    "tenant_uuid": str(self.tenant.uuid),
                    "credentials": self._credentials(device),
                }
        return 401, {"title": "Unauthorized", "detail": "The device token is unknown."}

    def _credentials(self, device: Registration) -> JsonObject:
        # Each is later than the one before, as the real ones are.
        self.last_issued = now = max(int(time.time()), self.last_issued + 1)
        jwt = claims.device_user_jwt(
            self.tenant.device_key,
            account=self.tenant.account.public,
            device=device.uuid,
            user_public=device.nkey_public,
            issued_at=now,
            expires_at=int(now + self.lifetime),
        )
        addresses = self.nats_url.split(",")
        return {"jwt": jwt, "nats_url": addresses[0], "nats_urls": addresses}


class AgentProcess:
    """The agent with a configuration folder of its own; it may be started more than once."""

    def __init__(self, home: Path, server: FakeServer) -> None:
        home.mkdir(exist_ok=True)
        self.folder = home / "configuration"
        self.log = home / "agent.log"
        self.osquery_runs = home / "osquery-runs"
        self._server = server
        self._process: subprocess.Popen[bytes] | None = None
        self._programs = home / "bin"
        self._programs.mkdir(exist_ok=True)
        osquery = self._programs / "osqueryi"
        osquery.write_text(FAKE_OSQUERY)
        osquery.chmod(0o700)

    def start(self, *arguments: str, enrol: bool = True, key: str = ENROLLMENT_KEY) -> None:
        """With `enrol=False` it is told its configuration folder alone."""
        environment = {
            "PATH": f"{self._programs}:{os.defpath}",
            "HOME": str(self.folder.parent),
            "OSQUERY_RUNS": str(self.osquery_runs),
            "WEGWEISER_CONFIG_DIR": str(self.folder),
        }
        if enrol:
            environment |= {
                "WEGWEISER_SERVER": self._server.url,
                "WEGWEISER_GROUP": str(self._server.group),
                "WEGWEISER_ENROLLMENT_KEY": key,
                "WEGWEISER_DEVICE_NAME": "anna-laptop",
            }
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(AGENT), "--verbose", *arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    @property
    def configuration(self) -> JsonObject:
        """What agent.json holds; empty before it is there."""
        file = self.folder / "agent.json"
        content: JsonObject = json.loads(file.read_text()) if file.is_file() else {}
        return content

    @property
    def device(self) -> UUID:
        return UUID(self.configuration["device_uuid"])

    @property
    def log_text(self) -> str:
        return self.log.read_text()

    @property
    def runs(self) -> list[str]:
        """The queries that osquery was started with."""
        return self.osquery_runs.read_text().splitlines() if self.osquery_runs.exists() else []

    def wait_for_log(self, text: str) -> None:
        waiting.eventually(lambda: text in self.log_text)

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Until its end no query with "held" in it is through."""
        file = self.osquery_runs.with_name(f"{self.osquery_runs.name}-held")
        file.touch()
        try:
            yield
        finally:
            file.unlink()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        """As a power cut would."""
        if self._process is None:
            return
        self._process.kill()
        self.wait()

    def wait(self, seconds: float = SAFETY_NET) -> tuple[int, str]:
        """Exit status and standard output, when it ends."""
        output, _ = self.process.communicate(timeout=seconds)
        return self.process.returncode, output.decode()


class Platform:
    """The other end of the broker: sends commands and reads what INGEST has stored."""

    def __init__(self, broker: Broker, tenant: Tenant) -> None:
        self.broker = broker
        self.tenant = tenant
        self._peer: Peer | None = None
        self._next = dict.fromkeys(("INGEST", "LATEST"), 1)
        self._stored: list[tuple[str, JsonObject]] = []

    async def connect(self) -> None:
        self._peer = await self.broker.connect_as(self.broker.platform)

    @property
    def peer(self) -> Peer:
        assert self._peer is not None
        return self._peer

    def forget(self) -> None:
        """Read the streams from their beginning, as they were made anew."""
        self._next = dict.fromkeys(self._next, 1)
        self._stored.clear()

    async def send(
        self,
        device: UUID,
        command: Any,
        parameters: Any = None,
        *,
        command_id: str | None = None,
        wrapped: bool = True,
    ) -> str:
        """The command's id."""
        command_id = command_id or str(uuid4())
        payload = {
            "command": command,
            "command_id": command_id,
            "parameters": {} if parameters is None else parameters,
            "timestamp": time.time(),
            "sender": "alice",
        }
        wrapper = {
            "tenant_uuid": str(self.tenant.uuid),
            "device_uuid": str(device),
            "message_type": "command",
            "payload": payload,
            "timestamp": time.time(),
            "message_id": str(uuid4()),
        }
        await self.send_raw(device, json.dumps(wrapper if wrapped else payload).encode())
        return command_id

    async def send_raw(self, device: UUID, body: bytes) -> None:
        subject = subjects.command_export(self.tenant.account.public, device)
        await self.peer.publish(subject, body)

    async def run(
        self, device: UUID, command: Any, parameters: Any = None, **options: Any
    ) -> JsonObject:
        """The final result of a command."""
        command_id = await self.send(device, command, parameters, **options)
        return await self.result(device, command_id)

    async def result(self, device: UUID, command_id: str) -> JsonObject:
        async def find() -> JsonObject | None:
            results = await self.results(device, command_id)
            return next((each for each in results if each["status"] != "received"), None)

        result: JsonObject = await eventually(find)
        return result

    async def results(self, device: UUID, command_id: str) -> list[JsonObject]:
        """All that was stored about this command, receipts too, in order."""
        return [
            body["result"]
            for body in await self.stored(device, "response")
            if body["command_id"] == command_id
        ]

    async def stored(self, device: UUID, kind: str) -> list[JsonObject]:
        """The bodies that INGEST or LATEST has or had, in order."""
        for stream in self._next:
            await self._read(stream)
        end = f".tenant.{self.tenant.uuid}.device.{device}.{kind}"
        return [body for subject, body in self._stored if subject.endswith(end)]

    async def _read(self, stream: str) -> None:
        while True:
            try:
                message = await self.peer.jetstream.get_msg(
                    stream, seq=self._next[stream], subject="ingest.>", next=True
                )
            except NotFoundError:
                return
            assert message.seq is not None
            assert message.subject is not None
            self._next[stream] = message.seq + 1
            self._stored.append((message.subject, json.loads(message.data or b"")))

    async def next_heartbeat(self, device: UUID, *, after: int = 0) -> JsonObject:
        """The first one behind `after` others."""

        async def find() -> JsonObject | None:
            heartbeats = await self.stored(device, "heartbeat")
            return heartbeats[after] if len(heartbeats) > after else None

        heartbeat: JsonObject = await eventually(find)
        return heartbeat


eventually = waiting.aeventually


async def connected(agent: AgentProcess, platform: Platform) -> UUID:
    """The device, when its first heartbeat of this platform's time is stored."""
    await eventually(lambda: agent.configuration.get("device_uuid"))
    await platform.next_heartbeat(agent.device)
    return agent.device
