"""Export the audit as CSV and JSON lines, a piece at a time."""

import csv
import io
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

from asgiref.sync import sync_to_async
from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import Max, QuerySet
from django.http import StreamingHttpResponse
from django.utils import timezone

from natsbridge.protocol.escaping import escape_marks
from tenants.models import AuditEntry

FORMATS = {"csv": "text/csv; charset=utf-8", "jsonl": "application/x-ndjson"}
COLUMNS = (
    *("id", "at", "tenant_uuid", "action", "actor_kind", "actor", "actor_id", "device_uuid"),
    *("target", "address", "via", "count", "detail", "sequence", "seal"),
)
ROWS_AT_A_TIME = 2000
# What a spreadsheet takes for the start of a formula, also in full width.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", *"\uff1d\uff0b\uff0d\uff20")


def export(entries: QuerySet[AuditEntry], format: str) -> StreamingHttpResponse:
    """Return a file of the entries there are now, the oldest first.

    Only a few rows are in memory at a time, and each piece is a query of its own, so a slow reader
    holds nothing up.
    """
    answer = StreamingHttpResponse(_stream(entries, format), content_type=FORMATS[format])
    name = f"wegweiser-audit-{timezone.now():%Y%m%d-%H%M%S}.{format}"
    answer["Content-Disposition"] = f'attachment; filename="{name}"'
    answer["Cache-Control"] = "no-store"
    return answer


async def _stream(entries: QuerySet[AuditEntry], format: str) -> AsyncIterator[bytes]:
    pieces = _pieces(entries, _csv_lines if format == "csv" else _json_lines)
    if format == "csv":
        yield _csv_lines([COLUMNS])
    next_piece = sync_to_async(lambda: next(pieces, None))
    while (piece := await next_piece()) is not None:
        yield piece


def _pieces(
    entries: QuerySet[AuditEntry], written: Callable[[Iterable[tuple[Any, ...]]], bytes]
) -> Iterator[bytes]:
    newest = entries.order_by().aggregate(newest=Max("id"))["newest"] or 0
    rows = entries.filter(id__lte=newest).order_by("id").values_list(*COLUMNS)
    done = 0
    while page := list(rows.filter(id__gt=done)[:ROWS_AT_A_TIME]):
        yield written(page)
        done = page[-1][0]


def _csv_lines(rows: Iterable[tuple[Any, ...]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([_cell(value) for value in row] for row in rows)
    return escape_marks(text.getvalue().encode())


def _cell(value: Any) -> Any:
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, str) and value.startswith(FORMULA_STARTS):
        return f"'{value}"
    return value


def _json_lines(rows: Iterable[tuple[Any, ...]]) -> bytes:
    encode = PreciseEncoder(ensure_ascii=False).encode
    lines = (encode(dict(zip(COLUMNS, row, strict=True))) + "\n" for row in rows)
    return escape_marks("".join(lines).encode())


class PreciseEncoder(DjangoJSONEncoder):
    """Encode moments with their microseconds, which Django leaves out."""

    def default(self, value: Any) -> Any:
        return value.isoformat() if hasattr(value, "isoformat") else super().default(value)
