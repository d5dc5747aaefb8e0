"""The floods: what a device that has gone mad, or a tenant's stolen credential, may send."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from django.conf import settings

RATE = 100_000
# So many messages that differ, sent in turn.
DIFFERENT = 1_000

Message = tuple[str, str]


@dataclass(frozen=True)
class Target:
    """A device that is known, and the commands that it has answered already."""

    tenant: UUID
    device: UUID
    answered: Sequence[UUID] = ()
    siblings: Sequence[UUID] = ()


@dataclass(frozen=True)
class Flood:
    """`by_tenant`: with the tenant's own credential, which may name any device."""

    name: str
    messages: Callable[[Target], list[Message]]
    connections: int = 1
    by_tenant: bool = False


@dataclass
class Report:
    """What the flooder saw. `lives` are its connections, in seconds since it began."""

    seconds: float = 0.0
    sent: int = 0
    lives: list[list[float]] = field(default_factory=list)
    refused: int = 0
    words: list[str] = field(default_factory=list)

    @property
    def ended_after(self) -> float | None:
        """Seconds until it lost its first connection to the server; None if it kept it."""
        first = self.lives[0][1] if self.lives else None
        return None if first is None or first > self.seconds - 0.1 else first

    @property
    def share(self) -> float:
        """Of the time, how much it was connected."""
        return sum(until - since for since, until in self.lives) / (self.seconds or 1.0)


class Flooding:
    """A flood under way, in a process of its own; `stop` returns what it saw."""

    def __init__(self, orders: dict[str, Any]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.suites.floods.flooder"],
            cwd=settings.BASE_DIR,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._tell(json.dumps(orders))
        assert self._process.stdout
        assert self._process.stdout.readline() == "flooding\n"

    @property
    def is_over(self) -> bool:
        return self._process.poll() is not None

    def stop(self) -> Report:
        if not self.is_over:
            self._tell("stop")
        output, _ = self._process.communicate(timeout=30)
        return Report(**json.loads(output))

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate(timeout=10)

    def _tell(self, line: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()


@contextmanager
def flooding(
    flood: Flood,
    target: Target,
    port: int,
    login: dict[str, str],
    *,
    seconds: float,
    rate: float = RATE,
    again: bool = True,
) -> Iterator[Flooding]:
    """It ends after `seconds` by itself, and with the block at the latest."""
    orders: dict[str, Any] = {
        "port": port,
        "messages": flood.messages(target),
        "rate": rate,
        "connections": flood.connections,
        "seconds": seconds,
        "again": again,
        **login,
    }
    under_way = Flooding(orders)
    try:
        yield under_way
    finally:
        if not under_way.is_over:
            under_way.kill()


def _report(kind: str, body: Callable[[int, Target], Any]) -> Callable[[Target], list[Message]]:
    def messages(target: Target) -> list[Message]:
        subject = f"tenant.{target.tenant}.device.{target.device}.{kind}"
        return [(subject, _text(body(number, target))) for number in range(DIFFERENT)]

    return messages


def _text(body: Any) -> str:
    return body if isinstance(body, str) else json.dumps(body)


def _heartbeat(number: int, target: Target) -> dict[str, Any]:
    return {
        "agent_version": "1.0",
        "session_id": f"s{number}",
        "timestamp": time.time(),
        "capabilities": {"receipts": True},
    }


def _answer(command: UUID) -> dict[str, Any]:
    result = {"status": "success", "result": {"ok": True}}
    return {"command_id": str(command), "timestamp": time.time(), "result": result}


def _metrics(target: Target) -> list[Message]:
    return [
        (
            f"demo.system.{target.device}.{('cpu_percent', 'memory_percent')[number % 2]}",
            json.dumps({"value": number / 10, "timestamp_ms": round(time.time() * 1000)}),
        )
        for number in range(DIFFERENT)
    ]


def _of_many(kind: str, devices: Callable[[Target], Sequence[UUID]]) -> Callable[..., Any]:
    def messages(target: Target) -> list[Message]:
        named = devices(target)
        return [
            (
                f"tenant.{target.tenant}.device.{named[number % len(named)]}.{kind}",
                _text(_answer(uuid4()) if kind == "response" else _heartbeat(number, target)),
            )
            for number in range(max(DIFFERENT, len(named)))
        ]

    return messages


def _made_up(target: Target) -> list[UUID]:
    return [uuid4() for _ in range(10_000)]


def _siblings(target: Target) -> list[UUID]:
    return [target.device, *target.siblings]


_unknown_command = _report("response", lambda number, target: _answer(uuid4()))
_heartbeats = _report("heartbeat", _heartbeat)

FLOODS = (
    Flood("heartbeat", _heartbeats),
    Flood("status", _report("status", lambda number, target: {"number": number})),
    Flood("status.heartbeat", _report("status.heartbeat", _heartbeat)),
    Flood("responses to an unknown command", _unknown_command),
    Flood(
        "responses to a known command",
        _report("response", lambda n, target: _answer(target.answered[n % len(target.answered)])),
    ),
    Flood("responses of garbage", _report("response", lambda number, target: f'{{"x": {number}')),
    Flood(
        "monitoring",
        _report("monitoring", lambda n, target: {"monitoring_type": f"m{n % 20}", "n": n}),
    ),
    Flood("sysinfo", _report("sysinfo", lambda number, target: {"number": number})),
    Flood("metrics", _metrics),
    Flood("responses over 3 connections", _unknown_command, connections=3),
    Flood("heartbeats over 3 connections", _heartbeats, connections=3),
    Flood("tenant: responses of siblings", _of_many("response", _siblings), by_tenant=True),
    Flood("tenant: responses of made-up devices", _of_many("response", _made_up), by_tenant=True),
    Flood("tenant: heartbeats of made-up devices", _of_many("heartbeat", _made_up), by_tenant=True),
)
BY_NAME = {flood.name: flood for flood in FLOODS}
