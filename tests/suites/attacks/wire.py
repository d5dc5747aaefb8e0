"""A NATS client that sends whatever it is told, valid or not, and keeps every answer."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self
from uuid import uuid4

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from natsbridge.identity import nkeys
from tests.support.waiting import SAFETY_NET

# A JWT and the seed of its user, or nobody's.
Credentials = tuple[str, str] | None


class HungUp(Exception):
    """The server ended the connection; its last words are in the wire's `errors`."""


class Heard(NamedTuple):
    subject: str
    reply: str
    body: bytes


@dataclass
class Wire:
    """`receive` returns b"" once the server has hung up; `number` is the server's for this
    connection."""

    receive: Callable[[], Awaitable[bytes]]
    send: Callable[[bytes], Awaitable[None]]
    close: Callable[[], Awaitable[None]]
    nonce: str = ""
    number: int = 0
    heard: list[Heard] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    _buffer: bytes = b""

    @classmethod
    async def open(cls, port: int) -> Self:
        """To the listener for clients or leaf nodes on this port of 127.0.0.1."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        async def receive() -> bytes:
            try:
                return await reader.read(65_536)
            except ConnectionError:
                return b""

        async def send(data: bytes) -> None:
            writer.write(data)

        async def close() -> None:
            writer.close()

        return await cls(receive, send, close)._greeted()

    @classmethod
    async def open_websocket(cls, port: int, path: str = "/") -> Self:
        """Raises HungUp where the server does not serve this path."""
        try:
            websocket = await connect(f"ws://127.0.0.1:{port}{path}", compression=None)
        except InvalidHandshake as refusal:
            raise HungUp from refusal

        async def receive() -> bytes:
            try:
                return await websocket.recv(decode=False)
            except ConnectionClosed:
                return b""

        return await cls(receive, websocket.send, websocket.close)._greeted()

    def login(self, credentials: Credentials, **options: Any) -> bytes:
        """The CONNECT line."""
        details: dict[str, Any] = {
            "lang": "wire",
            "version": "1",
            "headers": True,
            "no_responders": True,
        }
        if credentials is not None:
            jwt, seed = credentials
            signature = base64.urlsafe_b64encode(nkeys.sign(seed, self.nonce.encode()))
            details |= {"jwt": jwt, "sig": signature.rstrip(b"=").decode()}
        return b"CONNECT " + json.dumps(details | options).encode() + b"\r\n"

    async def settle(self, commands: bytes = b"") -> None:
        """Send, and return when the server has dealt with all of it.

        What it delivered to this client until then is in `heard`. Raises HungUp.
        """
        await self.send(commands + b"PING\r\n")
        while await self._next() != "PONG":
            pass

    async def ask(
        self, subject: str, body: bytes, *, inbox: str, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any] | None:
        """The answer, which comes to `{inbox}.answer.*`: None if the request was refused, empty
        if nobody serves it."""
        reply = f"{inbox}.answer.{uuid4().hex}"
        errors = len(self.errors)
        await self.settle(publish(subject, body, reply=reply, headers=headers))
        while len(self.errors) == errors:
            for message in self.heard:
                if message.subject == reply:
                    answer: dict[str, Any] = json.loads(message.body or b"{}")
                    return answer
            await self._next()
        return None

    async def _greeted(self) -> Self:
        line = await self._line()
        said = json.loads(line.removeprefix(b"INFO "))
        self.nonce, self.number = said.get("nonce", ""), said.get("client_id", 0)
        return self

    async def _next(self) -> str:
        """Deal with one thing the server said, and say what kind it was."""
        words = (await self._line()).decode().split(" ")
        match words[0]:
            case "MSG" | "HMSG":
                sizes = 1 if words[0] == "MSG" else 2
                subject, _, *reply = words[1:-sizes]
                header = int(words[-2]) if sizes == 2 else 0
                content = await self._bytes(int(words[-1]) + 2)
                self.heard.append(Heard(subject, "".join(reply), content[header:-2]))
            case "-ERR":
                self.errors.append(" ".join(words[1:]))
            case "PING":
                await self.send(b"PONG\r\n")
        return words[0]

    async def _line(self) -> bytes:
        while b"\r\n" not in self._buffer:
            await self._more()
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    async def _bytes(self, count: int) -> bytes:
        while len(self._buffer) < count:
            await self._more()
        found, self._buffer = self._buffer[:count], self._buffer[count:]
        return found

    async def _more(self) -> None:
        data = await asyncio.wait_for(self.receive(), SAFETY_NET)
        if not data:
            raise HungUp
        self._buffer += data


def publish(
    subject: str, body: bytes, *, reply: str = "", headers: Mapping[str, str] | None = None
) -> bytes:
    if not headers:
        return f"PUB {subject} {reply} {len(body)}\r\n".encode() + body + b"\r\n"
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    header = f"NATS/1.0\r\n{lines}\r\n".encode()
    sizes = f"{len(header)} {len(header) + len(body)}"
    return f"HPUB {subject} {reply} {sizes}\r\n".encode() + header + body + b"\r\n"


def subscribe(subject: str, sid: int, *, queue: str = "") -> bytes:
    return f"SUB {subject} {queue} {sid}\r\n".encode()
