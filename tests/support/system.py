"""A whole backend for tests: broker, Redis, Postgres and a running subscriber, all real."""

import asyncio
import base64
import io
import json
import shutil
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from channels.layers import get_channel_layer
from django.conf import settings
from django.core.management import call_command
from django.utils.module_loading import autodiscover_modules
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.errors import NotFoundError

from natsbridge.client.connection import connect
from natsbridge.client.login import Login, connect_as
from natsbridge.identity import claims, nkeys
from natsbridge.registry import registry
from natsbridge.server.config import render
from natsbridge.subscriber.app import Subscriber
from tenants.broker.accounts import Purpose, ensure_platform_keys, key_pair
from tenants.broker.logins import platform_login
from tenants.broker.server import server_config
from tenants.credentials.issue import issue_tenant_credential
from tenants.models import BrokerAccount, Credential, Tenant
from tests.plugin import allot_port
from tests.suites.attacks.wire import HungUp, Wire, publish
from tests.support import waiting
from tests.support.broker import StartNats
from tests.support.people import Enrolled
from tests.support.waiting import SAFETY_NET

R = TypeVar("R")
eventually = waiting.eventually


class LoopThread:
    """An event loop in a thread, so that a test stays synchronous."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="test loop")
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, R], timeout: float = SAFETY_NET) -> R:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(SAFETY_NET)
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()


class Agent:
    """A connection to the broker that reports as a device."""

    def __init__(
        self,
        thread: LoopThread,
        device: UUID,
        tenant: UUID,
        jwt: str,
        seed: str,
        url: str | None = None,
    ) -> None:
        self._thread = thread
        self.device = device
        self.tenant = tenant
        self.received: list[dict[str, Any]] = []
        self.refusals: list[str] = []
        self.client = Client()
        thread.run(self._open(url or settings.NATS_URL, jwt, seed))

    async def _open(self, url: str, jwt: str, seed: str) -> None:
        async def refused(error: Exception) -> None:
            self.refusals.append(str(error))

        async def received(message: Msg) -> None:
            if message.data:
                self.received.append(json.loads(message.data))

        try:
            await self.client.connect(
                url.split(","),
                user_jwt_cb=lambda: jwt.encode(),
                signature_cb=lambda nonce: base64.b64encode(nkeys.sign(seed, nonce.encode())),
                inbox_prefix=f"_INBOX_{self.device}",
                error_cb=refused,
                allow_reconnect=False,
                connect_timeout=SAFETY_NET,
            )
        except NatsError:
            # One that was refused keeps its socket until it is closed.
            await asyncio.wait_for(self.client.close(), SAFETY_NET)
            raise
        await self.client.subscribe(self.subject("command"), cb=received)
        await self._settle()

    def subject(self, kind: str, device: UUID | None = None) -> str:
        return f"tenant.{self.tenant}.device.{device or self.device}.{kind}"

    def report(self, kind: str, body: Any) -> str:
        """Publishes and waits for the PubAck; the name of the stream that gave it."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self._thread.run(self._report(self.subject(kind), data))

    async def _report(self, subject: str, data: bytes) -> str:
        ack = await self.client.jetstream(timeout=SAFETY_NET).publish(subject, data)
        return ack.stream

    def report_all(self, kind: str, bodies: Sequence[Any]) -> None:
        """Publishes all, and waits until the stream has them all."""
        self._thread.run(self._report_all(self.subject(kind), bodies), timeout=60)

    async def _report_all(self, subject: str, bodies: Sequence[Any]) -> None:
        jetstream = self.client.jetstream(timeout=SAFETY_NET)
        for start in range(0, len(bodies), 500):
            part = bodies[start : start + 500]
            await asyncio.gather(
                *(jetstream.publish(subject, json.dumps(body).encode()) for body in part)
            )

    def publish_raw(self, subject: bytes) -> None:
        """A subject as bytes, which no client library would send."""
        self._thread.run(self._publish_raw(b"PUB " + subject + b" 2\r\n{}\r\n"))

    async def _publish_raw(self, frame: bytes) -> None:
        await self.client._send_command(frame)
        await self.client.flush()

    def publish_with_headers(self, kind: str, data: bytes, headers: dict[str, str]) -> None:
        self._thread.run(self.client.publish(self.subject(kind), data, headers=headers))
        self._thread.run(self.client.flush())

    def heartbeat(self, **fields: Any) -> None:
        body = {"agent_version": "1.0", "session_id": "s", "timestamp": time.time()}
        self.report("heartbeat", body | {"capabilities": {"receipts": True}} | fields)

    def answer(self, command: Any, status: str = "success", **fields: Any) -> None:
        body = {"command_id": str(command), "timestamp": time.time()}
        self.report("response", body | {"result": {"status": status, **fields}})

    def stream_metric(self, metric: str, body: Any, *, device: UUID | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.publish(f"demo.system.{device or self.device}.{metric}", data)

    def publish(self, subject: str, data: bytes = b"{}") -> None:
        """Core publish; returns when the server has taken or refused it."""
        self._thread.run(self._publish(subject, data))

    async def _publish(self, subject: str, data: bytes) -> None:
        await self.client.publish(subject, data)
        await self._settle()

    async def _settle(self) -> None:
        """Twice: nats-py sends the first PING ahead of what is still in its own buffer."""
        await self.client.flush()
        await self.client.flush()

    def close(self) -> None:
        if not self.client.is_closed:
            self._thread.run(self.client.close())


class System:
    """nats-server trusts the operator in the test's database; NATS_URL points to it."""

    def __init__(self, start_nats: StartNats, directory: Path, thread: LoopThread) -> None:
        ensure_platform_keys()
        self.thread = thread
        self._port, self._monitor_port = allot_port(), allot_port()
        settings.NATS_URL = f"nats://127.0.0.1:{self._port}"
        settings.AGENT_NATS_URL = settings.NATS_URL
        self._directory = directory / "nats"
        self._configuration = render(
            server_config(
                server_name="test",
                port=self._port,
                monitor_port=self._monitor_port,
                directory=self._directory,
            )
        )
        self._start_nats = start_nats
        self.server = self.start_server()
        self._agents: list[Agent] = []
        self._running: list[tuple[asyncio.Event, Future[None]]] = []

    @property
    def port(self) -> int:
        """Of the listener for clients."""
        return self._port

    def start_server(self) -> Any:
        self.server = self._start_nats(
            self._configuration, port=self._port, monitor_port=self._monitor_port
        )
        return self.server

    def restart_with(self, *options: str) -> None:
        """On what `nats_config` renders with these options for the same ports and data."""
        self.server.stop()
        out = io.StringIO()
        ports = ("--port", str(self._port), "--monitor-port", str(self._monitor_port))
        directory = ("--directory", str(self._directory))
        call_command("nats_config", *ports, *directory, *options, stdout=out)
        self._configuration = out.getvalue()
        self.start_server()

    def start_subscriber(self) -> None:
        """One more each time."""
        autodiscover_modules("handlers")
        login = platform_login()
        subscriber = Subscriber(registry, lambda: connect_as(login, "test"))
        stop = asyncio.Event()
        running = asyncio.run_coroutine_threadsafe(subscriber.run(stop), self.thread.loop)
        self._running.append((stop, running))

    def stop_subscriber(self) -> None:
        """As SIGTERM does: what has been received is finished."""
        for stop, running in self._running:
            self.thread.loop.call_soon_threadsafe(stop.set)
            running.result(SAFETY_NET)
        self._running.clear()

    def delete_ingest(self) -> None:
        """And LATEST."""

        async def delete(js: JetStreamContext) -> None:
            for name in ("INGEST", "LATEST"):
                await js.delete_stream(name)

        self.as_platform_owner(delete)

    def ingest_exists(self) -> bool:
        try:
            self.as_platform_owner(lambda js: js.stream_info("INGEST"))
        except NotFoundError:
            return False
        return True

    def as_platform_owner(self, use: Callable[[JetStreamContext], Awaitable[Any]]) -> None:
        """With every right in the platform's account, which the subscriber has not."""
        user = nkeys.generate("user")
        jwt = claims.account_user_jwt(
            key_pair(Purpose.PLATFORM),
            name="owner",
            user_public=user.public,
            issued_at=int(time.time()),
        )

        async def connected() -> None:
            async with connect(
                settings.NATS_URL, user_jwt=lambda: jwt, seed=user.seed, name="owner"
            ) as connection:
                await use(connection.client.jetstream())

        self.thread.run(connected())

    def may_publish(self, login: Login, subject: str) -> bool:
        """Whether the server lets this user of the platform's account publish there."""
        refusals: list[Exception] = []

        async def publish_it() -> None:
            async with connect(
                settings.NATS_URL,
                user_jwt=lambda: login.jwt,
                seed=login.seed,
                name="asking",
                on_error=refusals.append,
            ) as connection:
                # No JSON: what may be published does nothing.
                await connection.client.publish(subject, b"?")
                await connection.client.flush()
                await connection.client.flush()

        self.thread.run(publish_it())
        return not refusals

    def lose_disk(self) -> None:
        """The server restarts without the accounts and streams it had."""
        self.server.stop()
        shutil.rmtree(self._directory)
        self.start_server()

    def lets_in(self, enrolled: Enrolled) -> bool:
        try:
            self.agent(enrolled)
        except NatsError:
            return False
        return True

    def lets_in_by_password(self, username: str, password: str) -> bool:
        return self.thread.run(self._log_in(username, password))

    async def _log_in(self, username: str, password: str) -> bool:
        wire = await Wire.open(self._port)
        login = wire.login(None, user=username, **{"pass": password})
        try:
            # What nobody may publish is refused to one who is in.
            await wire.settle(login + publish("anything", b""))
        except HungUp:
            return False
        finally:
            await wire.close()
        return bool(wire.errors)

    def admitted_by_password(self, logins: Sequence[tuple[str, str]]) -> list[bool]:
        """At once."""

        async def log_in_all() -> list[bool]:
            return await asyncio.gather(*(self._log_in(*each) for each in logins))

        return self.thread.run(log_in_all(), timeout=SAFETY_NET)

    def agent(self, enrolled: Enrolled, url: str | None = None) -> Agent:
        return self.agent_with(enrolled, enrolled.jwt, url)

    def agent_with(self, enrolled: Enrolled, jwt: str, url: str | None = None) -> Agent:
        """The device's agent with a JWT that it has already."""
        device = enrolled.device
        return self._remember(
            Agent(self.thread, device.pk, device.tenant_id, jwt, enrolled.key.seed, url)
        )

    def _remember(self, agent: Agent) -> Agent:
        self._agents.append(agent)
        return agent

    def running_agent(self, enrolled: Enrolled) -> Agent:
        """With a subscriber running and the device's tenant provisioned."""
        self.start_subscriber()
        accounts = BrokerAccount.objects.filter(tenant=enrolled.device.tenant_id)
        eventually(accounts.exclude(provisioned_at=None).exists)
        return self.agent(enrolled)

    def tenant_agent(self, agent: Agent) -> Agent:
        """The tenant's own credential, in the same account as the agent's."""
        tenant = Tenant.objects.get(pk=agent.tenant)
        issued = issue_tenant_credential(tenant, kind=Credential.Kind.JWT, by=None)
        return self._remember(
            Agent(self.thread, agent.device, agent.tenant, *parse_credentials(issued.secret))
        )

    def close(self) -> None:
        for agent in self._agents:
            agent.close()
        self.stop_subscriber()
        # The next test begins with connections of its own, since this one may restart Redis.
        self.thread.run(get_channel_layer().flush())


def parse_credentials(credentials: str) -> tuple[str, str]:
    """JWT and seed out of a `.creds` file."""
    lines = [line for line in credentials.splitlines() if line and not line.startswith(("-", "*"))]
    jwt = next(line for line in lines if line.startswith("ey"))
    seed = next(line for line in lines if line.startswith("SU"))
    return jwt, seed
