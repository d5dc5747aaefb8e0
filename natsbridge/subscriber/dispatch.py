"""Hand durable messages to their handlers in batches, and isolate messages that fail."""

import traceback
from collections import OrderedDict
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, NamedTuple

import structlog

from natsbridge.errors import DependencyAway, InvalidSubject, MalformedMessage
from natsbridge.jetstream.declarations import Tries
from natsbridge.protocol import envelope, subjects
from natsbridge.protocol.envelope import Message, RawMessage, Unreadable
from natsbridge.protocol.kinds import Body
from natsbridge.registry import Registry, Rejection, StreamSubscription
from natsbridge.runtime import DATABASE_AWAY

log = structlog.get_logger(__name__)


# The most failing messages whose failures are counted.
_REMEMBERED = 20_000


class Verdict(Enum):
    DONE = "done"
    REJECTED = "rejected"
    RETRY = "retry"


BatchHandler = Callable[[Sequence[Any]], Sequence[Rejection]]
# Maps a raw message to its handler and the handler's argument. Raises InvalidSubject and
# MalformedMessage.
Reader = Callable[[RawMessage], tuple[BatchHandler, Any]]


class _Item(NamedTuple):
    raw: RawMessage
    content: Any


def device_messages(registry: Registry) -> Reader:
    """Return a reader that decodes devices' messages for the handlers of their kinds."""

    def read(raw: RawMessage) -> tuple[BatchHandler, Message]:
        subject = subjects.parse_ingest(raw.subject)
        handler = registry.handlers.get(subject.kind)
        if handler is None:
            raise InvalidSubject(f"Nothing handles messages of kind {subject.kind!r}.")
        body: Body | Unreadable
        try:
            body = envelope.decode(
                subject.kind, raw.data, tenant=subject.tenant, device=subject.device
            )
        except MalformedMessage as error:
            if subject.kind not in registry.unreadable:
                raise
            body = Unreadable(error.reason, str(error))
        return handler, Message(
            subject.account, subject.tenant, subject.device, subject.kind, body, raw
        )

    return read


def all_to(subscription: StreamSubscription) -> Reader:
    """Return a reader for a stream whose one handler decodes the messages itself."""
    return lambda raw: (subscription.handle, raw)


class Dispatcher:
    """Dispatches batches, and counts the failures of messages.

    `dispatch` raises DATABASE_AWAY and DependencyAway while a server is away. No message is to
    blame then and nothing is decided: the caller dispatches the batch again.
    """

    def __init__(self, read: Reader, *, tries: Tries) -> None:
        self._read = read
        self._tries = tries
        # By sequence, for the most recent messages only.
        self._failures: OrderedDict[int, int] = OrderedDict()

    def dispatch(self, raws: Sequence[RawMessage]) -> tuple[list[Verdict], list[Rejection]]:
        """Return a verdict for each message once all writes are committed, and the rejections."""
        rejections: list[Rejection] = []
        retried: set[int] = set()
        by_handler: dict[BatchHandler, list[_Item]] = {}
        for raw in raws:
            try:
                handler, content = self._read(raw)
            except InvalidSubject as error:
                rejections.append(Rejection(raw, "bad_subject", str(error)))
            except MalformedMessage as error:
                rejections.append(Rejection(raw, error.reason, str(error)))
            else:
                by_handler.setdefault(handler, []).append(_Item(raw, content))
        for handler, items in by_handler.items():
            failed, rejected = self._hand_over(handler, items)
            rejections += rejected
            retried |= {id(item.raw) for item in failed}
        rejected_ids = {id(rejection.message) for rejection in rejections}
        verdicts = [
            Verdict.REJECTED
            if id(raw) in rejected_ids
            else Verdict.RETRY
            if id(raw) in retried
            else Verdict.DONE
            for raw in raws
        ]
        return verdicts, rejections

    def attempts(self, raw: RawMessage) -> int:
        """Return how often a message has failed here; one that cannot be read counts as one try."""
        return max(1, self._failures.get(raw.sequence, 0))

    def delay(self, raw: RawMessage) -> float:
        """Return for how many seconds a failed message waits before its next try."""
        return self._tries.delay(self.attempts(raw))

    def forget(self, raw: RawMessage) -> None:
        """Forget the failures of a message that will not come again."""
        self._failures.pop(raw.sequence, None)

    def _count_failure(self, raw: RawMessage) -> int:
        failures = self._failures.pop(raw.sequence, 0) + 1
        self._failures[raw.sequence] = failures
        if len(self._failures) > _REMEMBERED:
            self._failures.popitem(last=False)
        return failures

    def _hand_over(
        self, handler: BatchHandler, items: Sequence[_Item]
    ) -> tuple[list[_Item], list[Rejection]]:
        """Call the handler with the batch, and where that fails with each message by itself.

        So a bad message never holds up its neighbours. Return those to try again later, and the
        rejections.
        """
        try:
            return [], list(handler([item.content for item in items]))
        except (*DATABASE_AWAY, DependencyAway):
            raise
        except Exception:
            if len(items) > 1:
                log.warning("batch failed, trying one by one", size=len(items), exc_info=True)
                return self._one_by_one(handler, items)
            item = items[0]
            log.exception("message failed", subject=item.raw.subject)
            failures = self._count_failure(item.raw)
            if not self._tries.are_used_up(failures, item.raw.deliveries):
                return [item], []
            return [], [Rejection(item.raw, "failed", traceback.format_exc())]

    def _one_by_one(
        self, handler: BatchHandler, items: Sequence[_Item]
    ) -> tuple[list[_Item], list[Rejection]]:
        failed: list[_Item] = []
        rejections: list[Rejection] = []
        for item in items:
            one_failed, one_rejected = self._hand_over(handler, [item])
            failed += one_failed
            rejections += one_rejected
        return failed, rejections
