"""A process that floods a nats-server: paced and bounded, over raw sockets, and back at once when
it is thrown out. It reads its orders as JSON from standard input, and prints what it saw as JSON.
"""

import base64
import json
import select
import socket
import sys
import time
from typing import Any

from natsbridge.identity.nkeys import sign

# How often something is sent; and the most that waits to be sent over one connection.
TICK = 0.01
MOST_WAITING = 4 * 1024 * 1024
# Between two attempts to connect again.
PAUSE = 0.02


class Attacker:
    """One connection, opened again as soon as it ends. `frames` are sent in turn, over and over."""

    def __init__(self, orders: dict[str, Any], frames: list[bytes], rate: float) -> None:
        self._orders = orders
        self._rate = rate
        # Rendered in parts of some 100, so that sending costs next to nothing.
        self._parts = [
            (len(part), b"".join(part))
            for part in (frames[start : start + 100] for start in range(0, len(frames), 100))
        ]
        self._next = 0
        self._socket: socket.socket | None = None
        self._waiting = bytearray()
        self._received = b""
        self._due = 0.0
        self._again_at = 0.0
        self._since = 0.0
        self.sent = 0
        self.lives: list[tuple[float, float]] = []
        self.words: list[str] = []
        self.refused = 0

    def turn(self, now: float, passed: float) -> None:
        if self._socket is None:
            if now >= self._again_at and (self._orders["again"] or not self.lives):
                self._open(now)
            return
        try:
            self._listen(self._socket)
            self._due = min(self._due + passed * self._rate, self._rate / 10)
            while self._due > 0 and len(self._waiting) < MOST_WAITING:
                count, part = self._parts[self._next % len(self._parts)]
                self._next += 1
                self._waiting += part
                self._due -= count
                self.sent += count
            while self._waiting:
                gone = self._socket.send(self._waiting[:262_144])
                del self._waiting[:gone]
        except BlockingIOError:
            pass
        except OSError:
            self.end(now)

    def end(self, now: float) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            self.lives.append((self._since, now))
            self._again_at = now + PAUSE

    def _open(self, now: float) -> None:
        self._waiting.clear()
        self._received = b""
        self._due = 0.0
        connected: socket.socket | None = None
        try:
            connected = socket.create_connection(("127.0.0.1", self._orders["port"]), 2.0)
            self._log_in(connected)
        except OSError:
            self.refused += 1
            self._again_at = now + PAUSE
            if connected is not None:
                connected.close()
            return
        connected.setblocking(False)
        self._socket, self._since = connected, time.monotonic()

    def _log_in(self, connected: socket.socket) -> None:
        """Raises OSError where the server does not let it in."""
        info = json.loads(_line(connected).removeprefix(b"INFO "))
        login: dict[str, Any] = {"lang": "flood", "version": "1", "verbose": False}
        orders = self._orders
        if orders.get("jwt"):
            signature = sign(orders["seed"], info["nonce"].encode())
            encoded = base64.urlsafe_b64encode(signature).rstrip(b"=").decode()
            login |= {"jwt": orders["jwt"], "sig": encoded}
        elif orders.get("user"):
            login |= {"user": orders["user"], "pass": orders["password"]}
        connected.sendall(b"CONNECT " + json.dumps(login).encode() + b"\r\nPING\r\n")
        while (line := _line(connected)) != b"PONG":
            if line.startswith(b"-ERR"):
                self._heard(line)
                raise ConnectionError(line.decode())

    def _listen(self, connected: socket.socket) -> None:
        while True:
            try:
                data = connected.recv(65_536)
            except BlockingIOError:
                return
            if not data:
                raise ConnectionError
            *lines, self._received = (self._received + data).split(b"\r\n")
            for line in lines:
                if line == b"PING":
                    self._waiting += b"PONG\r\n"
                elif line.startswith(b"-ERR"):
                    self._heard(line)

    def _heard(self, line: bytes) -> None:
        text = line.decode().removeprefix("-ERR ").strip("'")
        if text not in self.words and len(self.words) < 20:
            self.words.append(text)


def _line(connected: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\r\n"):
        byte = connected.recv(1)
        if not byte:
            raise ConnectionError("hung up")
        line += byte
    return line[:-2]


def main() -> None:
    orders = json.loads(sys.stdin.readline())
    frames = [
        f"PUB {subject} {len(body.encode())}\r\n{body}\r\n".encode()
        for subject, body in orders["messages"]
    ]
    rate = orders["rate"] / orders["connections"]
    attackers = [Attacker(orders, frames, rate) for _ in range(orders["connections"])]
    started = last = time.monotonic()
    for attacker in attackers:
        attacker.turn(started, 0.0)
    print("flooding", flush=True)
    # It ends early when its orders do.
    while (now := time.monotonic()) - started < orders["seconds"]:
        for attacker in attackers:
            attacker.turn(now, now - last)
        last = now
        readable, _, _ = select.select([sys.stdin], [], [], TICK)
        if readable:
            break
    now = time.monotonic()
    for attacker in attackers:
        attacker.end(now)
    lives = sorted(life for attacker in attackers for life in attacker.lives)
    report = {
        "seconds": now - started,
        "sent": sum(attacker.sent for attacker in attackers),
        "lives": [[since - started, until - started] for since, until in lives],
        "refused": sum(attacker.refused for attacker in attackers),
        "words": sorted({word for attacker in attackers for word in attacker.words}),
    }
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
