"""What runs in a subscriber: handlers by message kind, of whole streams, of live messages, and
side tasks.

Apps fill it by decorators in their `handlers` modules, which the subscriber's command imports.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from natsbridge.protocol.envelope import Message, RawMessage

if TYPE_CHECKING:
    from natsbridge.runtime import Runtime


class Rejection(NamedTuple):
    """A message that can never be used, and why: a word to count and a sentence to read."""

    message: RawMessage
    reason: str
    detail: str


# Both are synchronous and run in their consumer's own thread. They take a batch and return what
# they reject; whatever they raise means that none of the batch is done.
Handler = Callable[[Sequence[Message]], Sequence[Rejection]]
StreamHandler = Callable[[Sequence[RawMessage]], Sequence[Rejection]]
LiveHandler = StreamHandler
# A coroutine function that runs until `runtime.stopping` is set.
SideTask = Callable[["Runtime"], Awaitable[None]]

HandlerT = TypeVar("HandlerT", bound=Handler)
StreamHandlerT = TypeVar("StreamHandlerT", bound=StreamHandler)
LiveHandlerT = TypeVar("LiveHandlerT", bound=LiveHandler)
SideTaskT = TypeVar("SideTaskT", bound=SideTask)


def _as_it_is(body: bytes) -> bytes:
    return body


@dataclass(frozen=True)
class StreamSubscription:
    """A durable consumer of a declared stream, read in batches, acknowledged after the commit.

    `dead_letter_body` removes from a body what a dead letter must not keep. After a batch of many
    the next one gathers for `gather` seconds: thousands a second are then a few batches.
    """

    name: str
    stream: str
    consumer: str
    handle: StreamHandler
    dead_letter_body: Callable[[bytes], bytes] = _as_it_is
    gather: float = 0.0


@dataclass(frozen=True)
class LiveSubscription:
    """Core NATS, at most once: `queue` shares the subject among several subscribers."""

    name: str
    subject: str
    queue: str
    handle: LiveHandler


@dataclass
class Registry:
    handlers: dict[str, Handler] = field(default_factory=dict)
    # Kinds whose handlers also take messages with an unreadable body.
    unreadable: set[str] = field(default_factory=set)
    streams: dict[str, StreamSubscription] = field(default_factory=dict)
    live: dict[str, LiveSubscription] = field(default_factory=dict)
    side_tasks: dict[str, SideTask] = field(default_factory=dict)
    channels: set[str] = field(default_factory=set)

    def handler(self, *kinds: str, unreadable: bool = False) -> Callable[[HandlerT], HandlerT]:
        """Hand durable messages of these kinds to the function.

        `unreadable`: also those whose body was refused, an `Unreadable` in its place, for the
        function to reject.
        """

        def register(function: HandlerT) -> HandlerT:
            for kind in kinds:
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
        """Hand what `consumer` brings from `stream` to the function, which reads it itself. The
        stream and its consumer are declared in `natsbridge.jetstream.streams`."""

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

    def side_task(
        self, name: str, *, wakes_on: Sequence[str] = ()
    ) -> Callable[[SideTaskT], SideTaskT]:
        """Run the coroutine function beside the consumers; it is restarted when it fails.

        `wakes_on` are the Postgres channels on which it may ask `runtime.wakeups` for an event.
        """

        def register(function: SideTaskT) -> SideTaskT:
            _add(self.side_tasks, name, function)
            self.channels.update(wakes_on)
            return function

        return register


def _add(entries: dict[str, Any], name: str, entry: Any) -> None:
    if entries.setdefault(name, entry) is not entry:
        raise ValueError(f"{name!r} is registered twice")


registry = Registry()
