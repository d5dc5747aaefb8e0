"""A network that can be cut: TCP routes on 127.0.0.1, in a process of their own.

A route that is cut goes silent: its connections stay open, take new ones even, and carry nothing,
not even an end. Joined again, they carry on with what was under way.

    python -m tests.suites.faults.proxy CONTROL_PORT NAME=PORT:TARGET_PORT...

On the control port it takes lines of `cut NAME...` and `join NAME...` and answers `ok`.
"""

import asyncio
import socket
import sys
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

import uvloop

LOOPBACK = "127.0.0.1"
CHUNK = 65_536
# As a kernel's own buffers would do, without a say of the sender's.
LIMIT = 4 * CHUNK


@dataclass(frozen=True)
class Route:
    """What connects to `port` reaches `target`."""

    name: str
    port: int
    target: int

    def __str__(self) -> str:
        return f"{self.name}={self.port}:{self.target}"

    @classmethod
    def parse(cls, text: str) -> "Route":
        name, _, ports = text.partition("=")
        port, _, target = ports.partition(":")
        return cls(name, int(port), int(target))


class Line:
    """One route in the proxy's process."""

    def __init__(self, route: Route) -> None:
        self._route = route
        self.joined = asyncio.Event()
        self.joined.set()
        self._cuts = 0

    def cut(self, times: int) -> None:
        """It carries again when it has been joined as often as it was cut."""
        self._cuts += times
        if self._cuts:
            self.joined.clear()
        else:
            self.joined.set()

    async def serve(self) -> None:
        await asyncio.start_server(self._carry, LOOPBACK, self._route.port, limit=LIMIT)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.joined.wait()
        try:
            far = await asyncio.open_connection(LOOPBACK, self._route.target, limit=LIMIT)
        except OSError:
            writer.transport.abort()
            return
        far_reader, far_writer = far
        pumps = [
            asyncio.create_task(self._pump(reader, far_writer)),
            asyncio.create_task(self._pump(far_reader, writer)),
        ]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        # The end of one direction is passed on, and is the end of both.
        for each in (writer, far_writer):
            each.close()
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK):
                await self.joined.wait()
                writer.write(data)
                await writer.drain()
        await self.joined.wait()


async def control(
    lines: dict[str, Line], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    while words := (await reader.readline()).decode().split():
        for name in words[1:]:
            lines[name].cut(1 if words[0] == "cut" else -1)
        writer.write(b"ok\n")
        await writer.drain()
    writer.close()


async def serve(control_port: int, routes: Collection[Route]) -> None:
    lines = {route.name: Line(route) for route in routes}
    for line in lines.values():
        await line.serve()
    server = await asyncio.start_server(
        lambda reader, writer: control(lines, reader, writer), LOOPBACK, control_port
    )
    await server.serve_forever()


class Network:
    """The proxy as those see it who cut it."""

    def __init__(self, control_port: int, routes: Collection[Route]) -> None:
        self.control_port = control_port
        self.routes = {route.name: route for route in routes}

    @property
    def command(self) -> list[str]:
        routes = [str(route) for route in self.routes.values()]
        return [sys.executable, "-m", "tests.suites.faults.proxy", str(self.control_port), *routes]

    def port(self, name: str) -> int:
        """What its clients connect to."""
        return self.routes[name].port

    def cut(self, names: Collection[str]) -> None:
        self._tell("cut", names)

    def join(self, names: Collection[str]) -> None:
        self._tell("join", names)

    def _tell(self, word: str, names: Collection[str]) -> None:
        with socket.create_connection((LOOPBACK, self.control_port), 5) as connection:
            connection.sendall(f"{word} {' '.join(names)}\n".encode())
            assert connection.recv(16) == b"ok\n"


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), [Route.parse(text) for text in sys.argv[2:]]))
