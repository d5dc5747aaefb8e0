"""Seal the audit's rows, which adds them to its hash chain, and anchor the chain now and then.

A seal is an HMAC over the row and the seal before it. An anchor is a signed checkpoint of that
chain. One process at a time does this, under an advisory lock.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from natsbridge.postgres import locks
from natsbridge.postgres.locks import Lock
from tenants.audit import checkpoints
from tenants.audit.rules.chain import GENESIS, Anchor, Row, Sealed, seal_of
from tenants.models import AuditAnchor, AuditEntry

log = structlog.get_logger(__name__)

BATCH_ROWS = 1000
ANCHOR_ROWS = 1000
ANCHOR_AFTER = timedelta(minutes=1)
# How many of the newest rows are checked for our own seal.
LOOK_BACK = 100
# A sequence that our chain never reaches, and the smallest there is.
UNLIKELY = 2**62
LOWEST = -(2**63)

# The fields of a Row as text that is the same each time: neither the session's time zone nor a
# float's precision has a part in it, and what Python could not read does not stop a verification.
_COLUMNS = """
    sequence, id, to_jsonb(timezone('UTC', at)) #>> '{}', tenant_uuid::text, action, actor_kind,
    actor, actor_id, device_uuid::text, target, address, via, count, detail::text
"""
_UNSEALED = f"""
    SELECT {_COLUMNS} FROM tenants_auditentry
    WHERE sequence IS NULL ORDER BY id LIMIT %s FOR UPDATE
"""  # noqa: S608 (constants)
_SEAL = """
    UPDATE tenants_auditentry AS entry SET sequence = new.sequence, seal = new.seal
    FROM unnest(%s::bigint[], %s::bigint[], %s::text[]) AS new(id, sequence, seal)
    WHERE entry.id = new.id
"""
_NEWEST = f"""
    SELECT {_COLUMNS}, seal FROM tenants_auditentry WHERE sequence IS NOT NULL
    ORDER BY sequence DESC LIMIT %s
"""  # noqa: S608 (constants)
SEALED_FROM = f"""
    SELECT {_COLUMNS}, seal FROM tenants_auditentry WHERE sequence >= %s ORDER BY sequence
"""  # noqa: S608 (constants)


@transaction.atomic
def seal_batch() -> int:
    """Seal a batch, and return the number of rows: 0 while another process seals, too."""
    with connection.cursor() as cursor:
        if not locks.try_lock(Lock.AUDIT_CHAIN):
            return 0
        cursor.execute(_UNSEALED, [BATCH_ROWS])
        rows = cursor.fetchall()
        if not rows:
            return 0
        sequence, seal = _head()
        taken = _seals_from(cursor, sequence + 1)
        sealed: list[tuple[int, int, str]] = []
        for _, *fields in rows:
            sequence += 1
            while sequence in taken:
                # An inserted row: the chain goes on after it, and a verification names it.
                seal = taken[sequence]
                sequence += 1
            row = Row(sequence, *fields)
            seal = seal_of(row, seal, settings.AUDIT_KEY)
            sealed.append((row.id, sequence, seal))
        cursor.execute(_SEAL, [list(column) for column in zip(*sealed, strict=True)])
    return len(sealed)


def anchor_head(*, at_once: bool = False) -> str | None:
    """Make an anchor if one is due, and write it to the file.

    Return None if none was due, an empty string if it was written, or else the file's problem.
    """
    with transaction.atomic():
        anchor = _head_anchor(at_once) if locks.try_lock(Lock.AUDIT_CHAIN) else None
    return write_to_file(anchor) if anchor else None


@contextmanager
def holding_still() -> Iterator[None]:
    """Let nobody seal, anchor or prune inside the block, which runs in a transaction."""
    # A savepoint: after an error inside, the transaction can still unlock.
    with locks.held(Lock.AUDIT_CHAIN), transaction.atomic():
        yield


def prune_batch(before: datetime) -> tuple[int, Anchor | None]:
    """Delete a batch of the oldest rows that are older than `before`, and anchor where it stopped.

    Delete sealed rows only, and none after one that stays.
    """
    with transaction.atomic():
        locks.lock(Lock.AUDIT_CHAIN)
        last = _last_to_prune(before)
        if last is None:
            return 0, None
        anchor = _save_anchor(AuditAnchor.Kind.PRUNED, *last)
        # Of no use any more, since the rows they cover are gone.
        AuditAnchor.objects.filter(sequence__lte=anchor.sequence).exclude(mac=anchor.mac).delete()
        removed, _ = AuditEntry.objects.filter(sequence__lte=anchor.sequence).delete()
    return removed, anchor


def write_to_file(anchor: Anchor) -> str:
    """Return why the anchor could not be written, or an empty string. The table has it anyway."""
    path = settings.AUDIT_ANCHORS_FILE
    try:
        checkpoints.append(path, anchor)
    except OSError as error:
        log.warning("cannot write the file of anchors", file=str(path), error=str(error))
        return f"{path}: {error.strerror or error}"
    AuditAnchor.objects.filter(mac=anchor.mac).update(in_file=True)
    return ""


def anchors_in_table() -> list[Anchor]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT kind, sequence, seal, to_jsonb(timezone('UTC', made_at)) #>> '{}', mac "
            "FROM tenants_auditanchor ORDER BY sequence DESC"
        )
        return [Anchor(*fields) for fields in cursor.fetchall()]


def macs_written_to_file() -> set[str]:
    """Return the MACs of the table's anchors that the file must have."""
    return set(AuditAnchor.objects.filter(in_file=True).values_list("mac", flat=True))


def newest_sequence() -> int:
    """Return where the chain ends, by its rows and anchors; 0 before the first."""
    return _head()[0]


def sealed_row(fields: Sequence[Any]) -> Sealed:
    """Return a row that SEALED_FROM has selected."""
    return Sealed(Row(*fields[:-1]), fields[-1])


def _head() -> tuple[int, str]:
    """Return the newest sequence and its seal, from a row, or from an anchor where rows are gone.

    So an end that was cut off leaves a gap for ever.
    """
    sequence, seal = _newest_row() or (0, GENESIS)
    anchor = _newest_anchor()
    if anchor and anchor.sequence > sequence:
        return anchor.sequence, anchor.seal
    return sequence, seal


def _newest_row() -> tuple[int, str] | None:
    """Return the newest row with our own seal.

    An inserted row with a higher sequence is passed over: otherwise the chain would go on after it,
    or run out of numbers. Where none of the newest has our seal, as with a new AUDIT_KEY, return
    the newest whose sequence could be ours.
    """
    with connection.cursor() as cursor:
        cursor.execute(_NEWEST, [LOOK_BACK])
        newest = [sealed_row(fields) for fields in cursor.fetchall()]
    before = {each.row.sequence + 1: {each.seal} for each in newest}
    before.setdefault(1, {GENESIS})
    anchors = AuditAnchor.objects.filter(
        sequence__in=[number for each in newest for number in _around(each.row.sequence)]
    )
    anchored: set[tuple[int, str]] = set()
    for anchor in map(_as_anchor, anchors):
        if anchor.is_genuine(settings.AUDIT_KEY):
            before.setdefault(anchor.sequence + 1, set()).add(anchor.seal)
            anchored.add((anchor.sequence, anchor.seal))
    for each in newest:
        number = each.row.sequence
        expected = {
            seal_of(each.row, previous, settings.AUDIT_KEY) for previous in before.get(number, ())
        }
        if each.seal in expected or (number, each.seal) in anchored:
            return number, each.seal
    likely = AuditEntry.objects.filter(sequence__lt=UNLIKELY).order_by("-sequence").first()
    return (likely.sequence or 0, likely.seal) if likely else None


def _around(sequence: int) -> tuple[int, ...]:
    return (sequence - 1, sequence) if sequence > LOWEST else (sequence,)


def _seals_from(cursor: Any, sequence: int) -> dict[int, str]:
    """Return the seals of inserted rows whose sequences the chain would reach next."""
    cursor.execute(
        "SELECT sequence, seal FROM tenants_auditentry WHERE sequence >= %s "
        "ORDER BY sequence LIMIT %s",
        [sequence, LOOK_BACK],
    )
    return dict(cursor.fetchall())


def _newest_anchor() -> Anchor | None:
    """Return the newest genuine anchor; forged ones are passed over."""
    newest = AuditAnchor.objects.order_by("-sequence").iterator(chunk_size=10)
    return next((a for a in map(_as_anchor, newest) if a.is_genuine(settings.AUDIT_KEY)), None)


def _head_anchor(at_once: bool) -> Anchor | None:
    newest, last = _newest_row(), _newest_anchor()
    if newest is None or (last and last.sequence >= newest[0]):
        return None
    if last and not at_once and newest[0] - last.sequence < ANCHOR_ROWS:
        age = timezone.now() - datetime.fromisoformat(f"{last.made_at}+00:00")
        if age < ANCHOR_AFTER:
            return None
    return _save_anchor(AuditAnchor.Kind.HEAD, *newest)


def _last_to_prune(before: datetime) -> tuple[int, str] | None:
    oldest = AuditEntry.objects.exclude(sequence=None).order_by("sequence")
    last: tuple[int, str] | None = None
    for sequence, seal, at in oldest.values_list("sequence", "seal", "at")[:BATCH_ROWS]:
        if at >= before:
            break
        last = sequence or 0, seal
    return last


def _save_anchor(kind: AuditAnchor.Kind, sequence: int, seal: str) -> Anchor:
    made_at = timezone.now().replace(microsecond=0)
    anchor = Anchor(kind.value, sequence, seal, _text(made_at)).signed(settings.AUDIT_KEY)
    AuditAnchor.objects.create(
        kind=kind, sequence=sequence, seal=seal, made_at=made_at, mac=anchor.mac
    )
    return anchor


def _as_anchor(row: AuditAnchor) -> Anchor:
    return Anchor(row.kind, row.sequence, row.seal, _text(row.made_at), row.mac)


def _text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S")
