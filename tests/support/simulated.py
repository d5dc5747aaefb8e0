"""Devices for measurements: a process that can be killed or stopped, a cable that can be pulled,
and many connections at once."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from typing import Self
from uuid import UUID

from django.conf import settings

from natsbridge.client.connection import Connection, connect
from tests.support.people import Enrolled
from tests.support.system import LoopThread
from tests.support.waiting import SAFETY_NET

# What it takes to be a device, without the agent's own ways of noticing that something is wrong.
_PROCESS = """
import asyncio, base64, json, sys
from nats.aio.client import Client
from natsbridge.identity.nkeys import sign

async def main():
    told = json.loads(sys.stdin.readline())
    client = Client()
    await client.connect(
        told["url"], allow_reconnect=False, inbox_prefix="_INBOX_" + told["device"],
        user_jwt_cb=lambda: told["jwt"].encode(),
        signature_cb=lambda nonce: base64.b64encode(sign(told["seed"], nonce.encode())),
    )
    print("connected", flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


class DeviceProcess:
    """A connected device in a process of its own."""

    def __init__(self, enrolled: Enrolled, url: str | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROCESS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        told = {
            "url": url or settings.NATS_URL,
            "device": str(enrolled.device.pk),
            "jwt": enrolled.jwt,
            "seed": enrolled.key.seed,
        }
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(told) + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "connected\n"

    def kill(self) -> None:
        self._process.kill()

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self._process.kill()
        self._process.communicate(timeout=SAFETY_NET)


class Cable:
    """A way to the broker that can be pulled: then it carries nothing, and closes nothing."""

    def __init__(self, thread: LoopThread) -> None:
        self._thread = thread
        self._carrying = asyncio.Event()
        self._writers: list[asyncio.StreamWriter] = []
        self._pumps: list[asyncio.Task[None]] = []
        self._server: asyncio.Server = thread.run(self._open())

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def pull(self) -> None:
        self._thread.loop.call_soon_threadsafe(self._carrying.clear)

    def close(self) -> None:
        self._thread.run(self._close())

    async def _open(self) -> asyncio.Server:
        self._carrying.set()
        return await asyncio.start_server(self._join, "127.0.0.1", 0)

    async def _join(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        port = int(settings.NATS_URL.rpartition(":")[2])
        far, forth = await asyncio.open_connection("127.0.0.1", port)
        self._writers += [back, forth]
        for source, target in ((near, forth), (far, back)):
            self._pumps.append(asyncio.create_task(self._pump(source, target)))

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                await self._carrying.wait()
                target.write(data)
                await target.drain()
            await self._carrying.wait()
            target.close()

    async def _close(self) -> None:
        self._server.close()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)
        for writer in self._writers:
            writer.close()


class Crowd:
    """Many devices that connect again, each after a while of its own, as agents do."""

    def __init__(self, thread: LoopThread, enrolled: Sequence[Enrolled]) -> None:
        self._thread = thread
        self._stack = AsyncExitStack()
        logins = [(each.device.pk, each.jwt, each.key.seed) for each in enrolled]
        self._connections = thread.run(self._open(logins), timeout=120)

    async def _open(self, logins: Sequence[tuple[UUID, str, str]]) -> list[Connection]:
        return [
            await self._stack.enter_async_context(
                connect(
                    settings.NATS_URL,
                    user_jwt=lambda jwt=jwt: jwt,
                    seed=seed,
                    name="device",
                    inbox_prefix=f"_INBOX_{device}",
                )
            )
            for device, jwt, seed in logins
        ]

    @property
    def connected(self) -> int:
        return sum(connection.is_connected for connection in self._connections)

    def close(self) -> None:
        self._thread.run(self._stack.aclose(), timeout=120)
