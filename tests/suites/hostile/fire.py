"""Sends hostile messages as a tenant's own credential, which may name any device of its tenant, and
counts what the broker takes of them."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Sequence
from uuid import UUID

from nats.aio.msg import Msg

from tests.suites.hostile.messages import Hostile
from tests.support.system import Agent, LoopThread

PATIENCE = 15.0


class Gun:
    """`taken` are those with a PubAck, by trick; `refused` the broker's words for the others."""

    def __init__(self, thread: LoopThread, tenant_agent: Agent) -> None:
        self._thread = thread
        self._client = tenant_agent.client
        self._tenant: UUID = tenant_agent.tenant
        self._waiting: dict[str, Hostile] = {}
        self._answered = asyncio.Event()
        self._sent = 0
        self._inbox = f"_INBOX.{random.randbytes(8).hex()}"  # noqa: S311
        self.taken: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        thread.run(self._listen())

    async def _listen(self) -> None:
        await self._client.subscribe(f"{self._inbox}.*", cb=self._hear)
        await self._client.flush()

    async def _hear(self, message: Msg) -> None:
        hostile = self._waiting.pop(message.subject.rpartition(".")[2], None)
        if hostile is None:
            return
        answer = json.loads(message.data) if message.data else {}
        if answer.get("seq") and not answer.get("duplicate") and "error" not in answer:
            self.taken[hostile.trick] += 1
        else:
            why = answer.get("error", {}).get("description") or str(message.headers or answer)
            self.refused[why.rstrip(" 0123456789:")] += 1
        if not self._waiting:
            self._answered.set()

    def fire(self, messages: Sequence[Hostile]) -> None:
        """Returns when the broker has answered to each."""
        self._thread.run(self._fire(messages), timeout=60)

    async def _fire(self, messages: Sequence[Hostile]) -> None:
        self._answered.clear()
        for message in messages:
            self._sent += 1
            self._waiting[str(self._sent)] = message
            await self._client._send_command(self._frame(message, self._sent))
        await self._client.flush(PATIENCE)
        if self._waiting:
            await asyncio.wait_for(self._answered.wait(), PATIENCE)

    def _frame(self, message: Hostile, number: int) -> bytes:
        subject = b"tenant.%s.device.%s.%s" % (
            str(self._tenant).encode(),
            message.device,
            message.kind,
        )
        reply = f"{self._inbox}.{number}".encode()
        whole = len(message.headers) + len(message.body)
        if message.headers:
            line = b"HPUB %s %s %d %d" % (subject, reply, len(message.headers), whole)
        else:
            line = b"PUB %s %s %d" % (subject, reply, whole)
        return line + b"\r\n" + message.headers + message.body + b"\r\n"
