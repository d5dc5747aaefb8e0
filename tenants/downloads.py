"""Send the rows of a table as a file of CSV or JSON lines, a piece at a time."""

import csv
import io
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import Any

from asgiref.sync import sync_to_async
from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import Max, QuerySet
from django.http import StreamingHttpResponse
from django.utils import timezone

from natsbridge.protocol.escaping import escape_marks

FORMATS = {"csv": "text/csv; charset=utf-8", "jsonl": "application/x-ndjson"}
ROWS_AT_A_TIME = 2000
# What a spreadsheet takes for the start of a formula, also in full width.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", *"\uff1d\uff0b\uff0d\uff20")

Row = tuple[Any, ...]
# The names in the file, each with the field that it is read from.
Columns = Mapping[str, str]


def download(
    rows: QuerySet[Any],
    columns: Columns,
    *,
    format: str,
    name: str,
    at_a_time: int = ROWS_AT_A_TIME,
) -> StreamingHttpResponse:
    """Return a file of the rows there are now, in the order of their primary keys.

    Only so many rows are in memory at a time, and each piece is a query of its own, so a slow
    reader holds nothing up.
    """
    pieces = _stream(rows, columns, format, at_a_time)
    answer = StreamingHttpResponse(pieces, content_type=FORMATS[format])
    file = f"wegweiser-{name}-{timezone.now():%Y%m%d-%H%M%S}.{format}"
    answer["Content-Disposition"] = f'attachment; filename="{file}"'
    answer["Cache-Control"] = "no-store"
    return answer


async def _stream(
    rows: QuerySet[Any], columns: Columns, format: str, at_a_time: int
) -> AsyncIterator[bytes]:
    names = tuple(columns)
    if format == "csv":
        yield _csv_lines(names, [names])
    written = _csv_lines if format == "csv" else _json_lines
    pieces = _pieces(rows, columns, written, at_a_time)
    next_piece = sync_to_async(lambda: next(pieces, None))
    while (piece := await next_piece()) is not None:
        yield piece


def _pieces(
    rows: QuerySet[Any],
    columns: Columns,
    written: Callable[[tuple[str, ...], Iterable[Row]], bytes],
    at_a_time: int,
) -> Iterator[bytes]:
    newest = rows.order_by().aggregate(newest=Max("pk"))["newest"] or 0
    listed = rows.filter(pk__lte=newest).order_by("pk").values_list("pk", *columns.values())
    done = 0
    while page := list(listed.filter(pk__gt=done)[:at_a_time]):
        yield written(tuple(columns), [row[1:] for row in page])
        done = page[-1][0]


def _csv_lines(names: tuple[str, ...], rows: Iterable[Row]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([_cell(value) for value in row] for row in rows)
    return escape_marks(text.getvalue().encode())


def _cell(value: Any) -> Any:
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, str) and value.startswith(FORMULA_STARTS):
        return f"'{value}"
    return value


def _json_lines(names: tuple[str, ...], rows: Iterable[Row]) -> bytes:
    encode = PreciseEncoder(ensure_ascii=False).encode
    lines = (encode(dict(zip(names, row, strict=True))) + "\n" for row in rows)
    return escape_marks("".join(lines).encode())


class PreciseEncoder(DjangoJSONEncoder):
    """Encode moments with their microseconds, which Django leaves out."""

    def default(self, value: Any) -> Any:
        return value.isoformat() if hasattr(value, "isoformat") else super().default(value)
