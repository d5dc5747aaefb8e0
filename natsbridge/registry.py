"""Register what runs in a subscriber: handlers, periodic work, and side tasks.

Apps register functions with decorators in their `handlers` modules, which the subscriber's command
imports.
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from natsbridge.client.login import Login
from natsbridge.postgres.locks import Lock
from natsbridge.protocol.envelope import Message, RawMessage
from natsbridge.protocol.kinds import HANDLED_KINDS

if TYPE_CHECKING:
    from natsbridge.runtime import Part, Runtime


class Rejection(NamedTuple):
    """A message that can never be used, and why: a word to count and a sentence to read."""

    message: RawMessage
    reason: str
    detail: str


# Handlers are synchronous and run in their consumer's own thread. They take a batch and return what
# they reject; if they raise, none of the batch is done.
Handler = Callable[[Sequence[Message]], Sequence[Rejection]]
StreamHandler = Callable[[Sequence[RawMessage]], Sequence[Rejection]]
LiveHandler = StreamHandler
# Synchronous, and run in a thread of its own. It may return the seconds until the next run.
PeriodicWork = Callable[["Runtime"], float | None]
# A coroutine function that runs until `part.runtime.stopping` is set.
SideWork = Callable[["Part"], Awaitable[None]]

HandlerT = TypeVar("HandlerT", bound=Handler)
StreamHandlerT = TypeVar("StreamHandlerT", bound=StreamHandler)
LiveHandlerT = TypeVar("LiveHandlerT", bound=LiveHandler)
PeriodicWorkT = TypeVar("PeriodicWorkT", bound=PeriodicWork)
SideWorkT = TypeVar("SideWorkT", bound=SideWork)


def _as_it_is(body: bytes) -> bytes:
    return body


@dataclass(frozen=True)
class StreamSubscription:
    """A durable consumer of a declared stream, read in batches, acknowledged after the commit.

    `dead_letter_body` removes from a body what a dead letter must not keep. After a large batch
    the next one is awaited for `gather` seconds, so that thousands a second are a few batches.
    """

    name: str
    stream: str
    consumer: str
    handle: StreamHandler
    dead_letter_body: Callable[[bytes], bytes] = _as_it_is
    gather: float = 0.0


@dataclass(frozen=True)
class LiveSubscription:
    """A subscription to core NATS, at most once, which several subscribers share by `queue`."""

    name: str
    subject: str
    queue: str
    handle: LiveHandler


@dataclass(frozen=True)
class Periodic:
    """Work that is repeated; see `Registry.periodic`."""

    name: str
    work: PeriodicWork
    every: float
    wakes_on: str | None = None
    lock: Lock | None = None
    first: float = 0.0
    least: float = 0.0
    last: float = 0.0


@dataclass(frozen=True)
class SideTask:
    """A coroutine beside the consumers; see `Registry.side_task`."""

    name: str
    work: SideWork
    login: Callable[[], Login] | None = None


@dataclass
class Registry:
    handlers: dict[str, Handler] = field(default_factory=dict)
    # The kinds whose handlers also take messages with an unreadable body.
    unreadable: set[str] = field(default_factory=set)
    streams: dict[str, StreamSubscription] = field(default_factory=dict)
    live: dict[str, LiveSubscription] = field(default_factory=dict)
    periodics: dict[str, Periodic] = field(default_factory=dict)
    side_tasks: dict[str, SideTask] = field(default_factory=dict)
    channels: set[str] = field(default_factory=set)
    # By part: those that have to run in the same process, since they share its memory.
    companions: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def handler(self, *kinds: str, unreadable: bool = False) -> Callable[[HandlerT], HandlerT]:
        """Hand durable messages of these kinds, rows of `protocol.kinds`, to the function.

        With `unreadable` it also gets messages whose body cannot be used, with an `Unreadable` in
        its place, and has to reject them.
        """

        def register(function: HandlerT) -> HandlerT:
            for kind in kinds:
                if kind not in HANDLED_KINDS:
                    raise ValueError(f"{kind!r} is not the kind of a durable message")
                _add(self.handlers, kind, function)
            if unreadable:
                self.unreadable.update(kinds)
            return function

        return register

    def stream_handler(
        self,
        name: str,
        *,
        stream: str,
        consumer: str,
        dead_letter_body: Callable[[bytes], bytes] = _as_it_is,
        gather: float = 0.0,
    ) -> Callable[[StreamHandlerT], StreamHandlerT]:
        """Hand what `consumer` brings from `stream` to the function, which decodes it itself.

        Both are declared in `natsbridge.jetstream.declarations`.
        """

        def register(function: StreamHandlerT) -> StreamHandlerT:
            subscription = StreamSubscription(
                name, stream, consumer, function, dead_letter_body, gather
            )
            _add(self.streams, name, subscription)
            return function

        return register

    def live_handler(
        self, name: str, *, subject: str, queue: str
    ) -> Callable[[LiveHandlerT], LiveHandlerT]:
        """Hand what arrives on `subject` to the function, some ten times a second."""

        def register(function: LiveHandlerT) -> LiveHandlerT:
            _add(self.live, name, LiveSubscription(name, subject, queue, function))
            return function

        return register

    def periodic(
        self,
        name: str,
        *,
        every: float,
        wakes_on: str | None = None,
        lock: Lock | None = None,
        first: float = 0.0,
        least: float = 0.0,
        last: float = 0.0,
        beside: Collection[str] = (),
    ) -> Callable[[PeriodicWorkT], PeriodicWorkT]:
        """Run the synchronous function every `every` seconds, in a thread of its own.

        It also runs when the Postgres channel `wakes_on` is notified, and after as many seconds as
        it returns. While a server is away it is tried again. With a `lock` only one of several
        subscribers runs it at a time.

        `first` are the seconds before the first run, `least` those between two runs, whatever
        wakes it. When the other parts have stopped it runs once more, for `last` seconds at most.
        It runs in each process that runs one of the parts in `beside`.
        """

        def register(function: PeriodicWorkT) -> PeriodicWorkT:
            job = Periodic(name, function, every, wakes_on, lock, first, least, last)
            _add(self.periodics, name, job)
            self._declare(name, wakes_on, beside)
            return function

        return register

    def side_task(
        self,
        name: str,
        *,
        login: Callable[[], Login] | None = None,
        wakes_on: str | None = None,
        beside: Collection[str] = (),
    ) -> Callable[[SideWorkT], SideWorkT]:
        """Run the coroutine function beside the consumers; it is restarted when it fails.

        It gets a Part, whose connection is opened with `login`, a synchronous function called at
        each start, or else is the subscriber's own. `wakes_on` is the Postgres channel on which it
        may wait. It runs in each process that runs one of the parts in `beside`.
        """

        def register(function: SideWorkT) -> SideWorkT:
            _add(self.side_tasks, name, SideTask(name, function, login))
            self._declare(name, wakes_on, beside)
            return function

        return register

    def _declare(self, name: str, channel: str | None, beside: Collection[str]) -> None:
        if channel is not None:
            self.channels.add(channel)
        for part in beside:
            self.companions[part].add(name)


def _add(entries: dict[str, Any], name: str, entry: Any) -> None:
    if entries.setdefault(name, entry) is not entry:
        raise ValueError(f"{name!r} is registered twice")


registry = Registry()
