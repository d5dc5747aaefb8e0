"""From raw durable messages to handlers: decode, group by kind, isolate what fails, park."""

import traceback
from collections.abc import Sequence
from enum import Enum

import structlog

from natsbridge import envelope, subjects
from natsbridge.envelope import Message, RawMessage
from natsbridge.errors import DependencyAway, InvalidSubject, MalformedMessage
from natsbridge.parking import park
from natsbridge.registry import Handler, Registry, Rejection
from natsbridge.runtime import DATABASE_AWAY

log = structlog.get_logger(__name__)


class Verdict(Enum):
    DONE = "done"
    PARKED = "parked"
    RETRY = "retry"


class Dispatcher:
    """Synchronous; a batch returns one verdict for each message once all writes are committed.

    Raises what says that a server is away (DATABASE_AWAY, DependencyAway): then no message is
    to blame, nothing is decided, and the batch is to be dispatched again.
    """

    def __init__(self, registry: Registry, *, max_deliveries: int) -> None:
        self._registry = registry
        self._max_deliveries = max_deliveries

    def dispatch(self, raws: Sequence[RawMessage]) -> tuple[list[Verdict], list[Rejection]]:
        rejections: list[Rejection] = []
        retried: set[int] = set()
        by_handler: dict[Handler, list[Message]] = {}
        for raw in raws:
            try:
                message = self._read(raw)
            except InvalidSubject as error:
                rejections.append(Rejection(raw, "bad_subject", str(error)))
            except MalformedMessage as error:
                rejections.append(Rejection(raw, error.reason, str(error)))
            else:
                by_handler.setdefault(self._registry.handlers[message.kind], []).append(message)
        for handler, messages in by_handler.items():
            failed, rejected = self._hand_over(handler, messages)
            rejections += rejected
            retried |= {id(message.raw) for message in failed}
        park(rejections)
        parked = {id(rejection.message) for rejection in rejections}
        verdicts = [
            Verdict.PARKED
            if id(raw) in parked
            else Verdict.RETRY
            if id(raw) in retried
            else Verdict.DONE
            for raw in raws
        ]
        return verdicts, rejections

    def _read(self, raw: RawMessage) -> Message:
        subject = subjects.parse_ingest(raw.subject)
        if subject.kind not in self._registry.handlers:
            raise InvalidSubject(f"Nothing handles messages of kind {subject.kind!r}.")
        body = envelope.decode(subject.kind, raw.data, tenant=subject.tenant, device=subject.device)
        return Message(subject.account, subject.tenant, subject.device, subject.kind, body, raw)

    def _hand_over(
        self, handler: Handler, messages: Sequence[Message]
    ) -> tuple[list[Message], list[Rejection]]:
        """One call for the batch; where that fails, one for each, so that a bad message never
        holds up its neighbours. Returns what to try again later, and what is rejected."""
        try:
            return [], list(handler(messages))
        except (*DATABASE_AWAY, DependencyAway):
            raise
        except Exception:
            if len(messages) > 1:
                log.warning("batch failed, trying one by one", size=len(messages), exc_info=True)
                return self._one_by_one(handler, messages)
            message = messages[0]
            log.exception("message failed", subject=message.raw.subject)
            if message.raw.deliveries < self._max_deliveries:
                return [message], []
            return [], [Rejection(message.raw, "failed", traceback.format_exc())]

    def _one_by_one(
        self, handler: Handler, messages: Sequence[Message]
    ) -> tuple[list[Message], list[Rejection]]:
        failed: list[Message] = []
        rejections: list[Rejection] = []
        for message in messages:
            one_failed, one_rejected = self._hand_over(handler, [message])
            failed += one_failed
            rejections += one_rejected
        return failed, rejections
