"""Write a tenant's rows as JSON lines, a few in memory at a time."""

import json
from collections.abc import Iterator

from django.utils import timezone

from natsbridge.protocol.escaping import escape_marks
from tenants.downloads import PreciseEncoder
from tenants.export.tables import Table, tables
from tenants.models import Tenant

# A row may have a command's result of 256 KiB.
ROWS_AT_A_TIME = 200
VERSION = 1


def export_lines(tenant: Tenant) -> Iterator[bytes]:
    """Yield one line for each row: `{"model", "pk", "fields"}`.

    The first line says what it is, and the last one how many rows there are, so that a file that
    was cut off can be told from a whole one.
    """
    begun = {"tenant": tenant.pk, "name": tenant.name, "at": timezone.now(), "version": VERSION}
    yield _line({"export": begun})
    count = 0
    for table in tables():
        for row in _rows(table, tenant):
            yield _line(row)
            count += 1
    yield _line({"end": {"rows": count}})


def _rows(table: Table, tenant: Tenant) -> Iterator[dict[str, object]]:
    names = [each.name for each in table.fields]
    columns = [each.attname for each in table.fields]
    rows = table.model._default_manager.filter(**{table.path: tenant.pk}).order_by("pk")
    wanted = rows.values_list("pk", *columns, *table.added.values())
    for pk, *values in wanted.iterator(chunk_size=ROWS_AT_A_TIME):
        fields = dict(zip([*names, *table.added], values, strict=True))
        yield {"model": table.label, "pk": pk, "fields": fields}


def _line(value: object) -> bytes:
    return escape_marks(json.dumps(value, cls=PreciseEncoder, ensure_ascii=False).encode()) + b"\n"
