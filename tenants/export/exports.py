"""Request a tenant's export, make it in the background, and remove it when it expires.

The web only writes a row. A subscriber makes the file and keeps it, compressed, in the database:
no folder is shared by all web servers and subscribers. One that was interrupted begins again.
"""

import zlib
from collections.abc import Callable, Iterator
from datetime import timedelta

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from natsbridge.postgres.statements import snapshot
from natsbridge.postgres.wakeups import notify
from tenants.audit.writer import actor_name, record_action
from tenants.errors import ExportRefused
from tenants.export.lines import export_lines
from tenants.models import Action, ExportChunk, Tenant, TenantExport, User

# Notified when an export is requested.
EXPORTS_CHANNEL = "wegweiser_exports"
CHUNK_BYTES = 1024**2
# Lines between two looks at whether to stop.
LINES_AT_A_TIME = 1000
# One that was begun more often, and never finished, is given up.
MOST_ATTEMPTS = 5
GIVEN_UP = f"It was begun {MOST_ATTEMPTS} times and never finished; see the subscriber's log."
GZIP = zlib.MAX_WBITS | 16

State = TenantExport.State

log = structlog.get_logger(__name__)


class Interrupted(Exception):
    """The process is to stop; the export begins again in another one."""


class TooLarge(Exception):
    """The file exceeds EXPORT_MAX_BYTES."""


@transaction.atomic
def request_export(tenant: Tenant, *, by: User | None) -> TenantExport:
    """Request an export, which a running subscriber makes. Raise ExportRefused while another one of
    the tenant is pending."""
    Tenant.objects.select_for_update().get(pk=tenant.pk)
    if TenantExport.objects.due().filter(tenant=tenant).exists():
        raise ExportRefused(f"An export of {tenant.name} is being made; wait for it.")
    export = TenantExport.objects.create(
        tenant=tenant, requested_by=by, requested_by_name=actor_name(by)
    )
    detail = {"export": str(export.pk)}
    record_action(
        Action.EXPORT_REQUESTED, tenant=tenant.pk, by=by, target=tenant.name, detail=detail
    )
    notify(EXPORTS_CHANNEL)
    return export


def export_now(tenant: Tenant, *, by: User | None) -> Iterator[bytes]:
    """Yield the lines of an export of the tenant as of this moment, and record it."""
    with snapshot():
        _record(Action.EXPORT_DOWNLOADED, tenant, by)
        yield from export_lines(tenant)


def make_requested(stop: Callable[[], bool]) -> int:
    """Make the exports that are due, and return how many are ready now. Only one process at a time
    does this, so one that is running was interrupted, and begins again."""
    remove_expired()
    made = 0
    for export in list(TenantExport.objects.due()):
        if stop():
            break
        made += _attempt(export, stop)
    return made


def remove_expired() -> None:
    TenantExport.objects.filter(expires_at__lte=timezone.now()).delete()


def _attempt(export: TenantExport, stop: Callable[[], bool]) -> bool:
    if export.attempts >= MOST_ATTEMPTS:
        _fail(export, GIVEN_UP)
        return False
    this = TenantExport.objects.filter(pk=export.pk)
    this.update(state=State.RUNNING, attempts=F("attempts") + 1)
    try:
        with snapshot():
            _make(export, stop)
    except Interrupted:
        # The export is not at fault when a subscriber stops.
        this.update(attempts=F("attempts") - 1)
        return False
    except TooLarge:
        most = settings.EXPORT_MAX_BYTES
        _fail(export, f"It is larger than {most:,} bytes, compressed; use manage.py export_tenant.")
        return False
    log.info("export made", tenant=str(export.tenant_id))
    return True


def _make(export: TenantExport, stop: Callable[[], bool]) -> None:
    """Write the chunks, and put the export in the place of the tenant's earlier ones."""
    size = rows = 0
    for number, (data, written) in enumerate(_pieces(export.tenant, stop)):
        size, rows = size + len(data), written
        if size > settings.EXPORT_MAX_BYTES:
            raise TooLarge
        ExportChunk.objects.create(export=export, number=number, data=data)
    now = timezone.now()
    TenantExport.objects.filter(tenant=export.tenant_id).exclude(pk=export.pk).delete()
    TenantExport.objects.filter(pk=export.pk).update(
        state=State.READY,
        finished_at=now,
        expires_at=now + timedelta(hours=settings.EXPORT_HOURS),
        row_count=rows,
        size_bytes=size,
    )


def _pieces(tenant: Tenant, stop: Callable[[], bool]) -> Iterator[tuple[bytes, int]]:
    """Yield pieces of the compressed file, each with how many rows have been written by then."""
    compressor = zlib.compressobj(wbits=GZIP)
    piece, count = b"", 0
    for count, line in enumerate(export_lines(tenant)):
        piece += compressor.compress(line)
        if len(piece) >= CHUNK_BYTES:
            yield piece, count
            piece = b""
        if count % LINES_AT_A_TIME == 0 and stop():
            raise Interrupted
    # Of the lines counted from 0, the first and the last are no rows.
    yield piece + compressor.flush(), count - 1


def _fail(export: TenantExport, error: str) -> None:
    TenantExport.objects.filter(pk=export.pk).update(
        state=State.FAILED, error=error, finished_at=timezone.now()
    )


def _record(action: Action, tenant: Tenant, by: User | None, **detail: str) -> None:
    record_action(action, tenant=tenant.pk, by=by, target=tenant.name, detail=detail)
