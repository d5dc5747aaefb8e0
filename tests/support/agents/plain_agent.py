"""An agent that gives no receipts: it runs whatever arrives, and remembers its answers alone."""

import asyncio
import base64
import json
import time
from collections import Counter
from contextlib import suppress
from typing import Any

from django.conf import settings
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from natsbridge.identity import nkeys
from tests.support.people import Enrolled
from tests.support.system import LoopThread

BEAT_SECONDS = 0.5


class PlainAgent:
    """Comes and goes as it is told; an answer that was not stored is sent again when it is back."""

    def __init__(self, thread: LoopThread, enrolled: Enrolled) -> None:
        self.device = enrolled.device
        # How often each command ran.
        self.runs: Counter[str] = Counter()
        self._thread = thread
        self._jwt, self._seed = enrolled.jwt, enrolled.key.seed
        self._prefix = f"tenant.{self.device.tenant_id}.device.{self.device.pk}"
        self._unanswered: list[str] = []
        self._client: Client | None = None
        self._reporting: asyncio.Task[None] | None = None

    @property
    def has_answered(self) -> bool:
        return not self._unanswered

    def connect(self) -> None:
        self._thread.run(self._connect())

    def leave(self) -> None:
        """As a program that ends."""
        self._thread.run(self._leave(abruptly=False))

    def die(self) -> None:
        """As one that is killed: its socket is reset."""
        self._thread.run(self._leave(abruptly=True))

    def stop_listening(self) -> None:
        """And report as before."""
        self._thread.run(self._commands.unsubscribe())

    def listen(self) -> None:
        """Again, over the same connection."""
        self._thread.run(self._listen())

    def close(self) -> None:
        if self._client is not None:
            self.leave()

    async def _connect(self) -> None:
        self._client = client = Client()
        await client.connect(
            settings.NATS_URL,
            user_jwt_cb=lambda: self._jwt.encode(),
            signature_cb=lambda nonce: base64.b64encode(nkeys.sign(self._seed, nonce.encode())),
            inbox_prefix=f"_INBOX_{self.device.pk}",
            allow_reconnect=False,
        )
        await self._listen()
        self._reporting = asyncio.create_task(self._report(client))

    async def _listen(self) -> None:
        assert self._client
        self._commands = await self._client.subscribe(f"{self._prefix}.command", cb=self._run)

    async def _leave(self, *, abruptly: bool) -> None:
        assert self._client
        client, self._client = self._client, None
        # Again and again, since nats-py can swallow a cancellation.
        while self._reporting and not self._reporting.done():
            self._reporting.cancel()
            await asyncio.wait([self._reporting], timeout=0.5)
        if abruptly:
            client._transport._io_writer.transport.abort()  # type: ignore[union-attr]
        await client.close()

    async def _run(self, message: Msg) -> None:
        if message.data:
            command = json.loads(message.data)["payload"]["command_id"]
            self.runs[command] += 1
            self._unanswered.append(command)

    async def _report(self, client: Client) -> None:
        next_beat = 0.0
        with suppress(NatsError):
            while True:
                if time.monotonic() >= next_beat:
                    next_beat = time.monotonic() + BEAT_SECONDS
                    await self._say(client, "heartbeat", {"agent_version": "plain"})
                while self._unanswered:
                    command = self._unanswered[0]
                    body = {"command_id": command, "result": {"status": "success"}}
                    await self._say(client, "response", body)
                    self._unanswered.remove(command)
                await asyncio.sleep(0.02)

    async def _say(self, client: Client, kind: str, body: dict[str, Any]) -> None:
        """Returns once it is stored."""
        stream = client.jetstream(timeout=5)
        data = json.dumps(body | {"timestamp": time.time()}).encode()
        await stream.publish(f"{self._prefix}.{kind}", data)
