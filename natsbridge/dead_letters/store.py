"""Mirror, replay and discard dead letters: the only writer of their table."""

import traceback
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.models import Count, F, QuerySet
from django.utils import timezone

from natsbridge.errors import AlreadyResolved, DependencyAway, InvalidSubject, MalformedMessage
from natsbridge.models import DeadLetter
from natsbridge.postgres.wakeups import notify
from natsbridge.protocol import dead_letter, subjects
from natsbridge.protocol.envelope import RawMessage
from natsbridge.protocol.storable import storable
from natsbridge.registry import Rejection
from natsbridge.runtime import DATABASE_AWAY

log = structlog.get_logger(__name__)

REPLAYS_CHANNEL = "wegweiser_replays"
State = DeadLetter.State

# Hands one message to its handler, and returns the rejection if there is one.
Replay = Callable[[DeadLetter, RawMessage], Rejection | None]


class _Sender(NamedTuple):
    account: str = ""
    tenant: Any = None
    device: Any = None
    kind: str = ""


def mirror(messages: Sequence[RawMessage]) -> list[Rejection]:
    """Store dead letters as rows, each once, and delete the surplus of the largest accounts."""
    with transaction.atomic():
        rows = [_row(message) for message in messages]
        DeadLetter.objects.bulk_create(rows, batch_size=200, ignore_conflicts=True)
        _make_room()
    return []


def _make_room() -> None:
    """Rank the rows only if they are too many: this costs twenty times as much as to count them."""
    limits = [settings.DEAD_LETTER_BYTES_MAX, settings.DEAD_LETTER_MESSAGES_MAX]
    with connection.cursor() as cursor:
        cursor.execute(_IS_FULL, limits)
        if cursor.fetchone() == (True,):
            cursor.execute(_MAKE_ROOM, limits)


def request_replay(messages: QuerySet[DeadLetter], *, by: str) -> int:
    """Ask the subscribers to replay those that are waiting, and return how many there are.

    A second request for the same dead letter changes nothing.
    """
    asked = messages.filter(state=State.WAITING, replay_requested_at=None).update(
        replay_requested_at=timezone.now(), replay_requested_by=by[:150]
    )
    if asked:
        notify(REPLAYS_CHANNEL)
    return asked


def discard(messages: QuerySet[DeadLetter], *, by: str) -> int:
    """Discard those that are waiting, and return how many; the queue keeps them for its 30 days."""
    return messages.filter(state=State.WAITING).update(
        state=State.DISCARDED, resolved_at=timezone.now(), resolved_by=by[:150]
    )


def require_waiting(message: DeadLetter) -> None:
    """Raise AlreadyResolved if it was replayed or discarded."""
    if message.state != State.WAITING:
        raise AlreadyResolved(
            f"Dead letter {message.pk} was {message.state} by {message.resolved_by}."
        )


def counts_by_reason() -> dict[str, int]:
    waiting = DeadLetter.objects.filter(state=State.WAITING)
    return dict(waiting.order_by().values_list("reason").annotate(Count("pk")).order_by("reason"))


def replay_some(replay: Replay, *, most: int = 100) -> int:
    """Replay requested dead letters, the oldest first, and return how many were tried.

    Several subscribers do not take the same ones. While a server is away this raises; the dead
    letter that needs it stays requested, those before it are done.
    """
    done = 0
    while done < most and _replay_next(replay):
        done += 1
    return done


def _replay_next(replay: Replay) -> bool:
    """Replay the oldest one. The handler's writes and the new state are one transaction."""
    with transaction.atomic():
        row = (
            DeadLetter.objects.select_for_update(skip_locked=True)
            .filter(state=State.WAITING, replay_requested_at__isnull=False)
            .order_by("id")
            .first()
        )
        if row is None:
            return False
        failure = _failure(replay, row)
        now = timezone.now()
        changes: dict[str, Any] = {"replay_requested_at": None}
        if failure is None:
            changes |= {
                "state": State.REPLAYED,
                "resolved_at": now,
                "resolved_by": row.replay_requested_by,
            }
        else:
            reason, detail = failure
            changes |= {
                "reason": reason[:40],
                "detail": storable(detail),
                "attempts": F("attempts") + 1,
            }
        DeadLetter.objects.filter(pk=row.pk).update(**changes)
    return True


def _failure(replay: Replay, row: DeadLetter) -> tuple[str, str] | None:
    if row.whole_size:
        return (
            row.reason,
            f"The body was cut: only {len(row.body)} of its {row.whole_size} bytes are stored.",
        )
    raw = RawMessage(row.subject, bytes(row.body), row.headers, row.received_at)
    try:
        with transaction.atomic():
            rejection = replay(row, raw)
    except (*DATABASE_AWAY, DependencyAway):
        raise
    except InvalidSubject as error:
        return "bad_subject", str(error)
    except MalformedMessage as error:
        return error.reason, str(error)
    except Exception:
        # A handler may raise anything.
        log.exception("replay failed", subject=row.subject)
        return "failed", traceback.format_exc()
    return None if rejection is None else (rejection.reason, rejection.detail)


_IS_FULL = f"""
    SELECT coalesce(sum(octet_length(body)), 0) > %s OR count(*) > %s
    FROM {DeadLetter._meta.db_table}
"""  # noqa: S608 (the table's own name)

# The accounts with the most rows lose their oldest first, so that a flood displaces its own. Each
# account keeps its newest row whatever its size, and loses resolved rows before waiting ones.
_MAKE_ROOM = f"""
    DELETE FROM {DeadLetter._meta.db_table} WHERE id IN (
        SELECT id FROM (
            SELECT id, rank,
                row_number() OVER (ORDER BY rank, id DESC) AS number,
                sum(size) OVER (ORDER BY held, id DESC) AS bytes
            FROM (
                SELECT id, octet_length(body) AS size, row_number() OVER own AS rank,
                    sum(octet_length(body)) OVER own AS held
                FROM {DeadLetter._meta.db_table}
                WINDOW own AS (
                    PARTITION BY account ORDER BY state <> '{State.WAITING}', id DESC
                )
            ) AS each
        ) AS ranked
        WHERE (rank > 1 AND bytes > %s) OR number > %s
    )
"""  # noqa: S608 (made of this package's own names)


def _row(message: RawMessage) -> DeadLetter:
    sender = _Sender()
    try:
        label, body = dead_letter.unpack(message.data)
    except MalformedMessage as error:
        label = dead_letter.Label(
            source="",
            subject=storable(message.subject)[:512],
            headers={},
            received_at=message.received_at,
            reason=error.reason,
            detail=str(error),
        )
        body = message.data
    else:
        sender = _sender_of(label.subject)
    account = sender.account or subjects.account_of_dead_letter(message.subject)
    return DeadLetter(
        sequence=message.sequence or None,
        dead_lettered_at=message.received_at,
        source=storable(label.source)[:60],
        received_at=label.received_at,
        subject=label.subject,
        account=account[:56],
        tenant=sender.tenant,
        device=sender.device,
        kind=sender.kind[:64],
        headers=label.headers,
        body=body,
        whole_size=label.whole_size,
        reason=label.reason,
        detail=label.detail,
        attempts=label.attempts,
    )


def _sender_of(subject: str) -> _Sender:
    for read in (_of_report, _of_metric, _of_event):
        try:
            return read(subject)
        except InvalidSubject:
            continue
    return _Sender()


def _of_report(subject: str) -> _Sender:
    parsed = subjects.parse_ingest(subject)
    return _Sender(parsed.account, parsed.tenant, parsed.device, parsed.kind)


def _of_metric(subject: str) -> _Sender:
    parsed = subjects.parse_metric(subject)
    return _Sender(parsed.account, None, parsed.device, f"metric:{parsed.metric_type}"[:64])


def _of_event(subject: str) -> _Sender:
    parsed = subjects.parse_broker(subject)
    return _Sender(parsed.account, None, None, parsed.event)
