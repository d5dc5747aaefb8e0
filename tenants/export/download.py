"""Answer with the file of an export, a piece at a time."""

from collections.abc import AsyncIterator

from django.db.models import QuerySet
from django.http import StreamingHttpResponse
from django.utils.text import slugify

from tenants.audit.writer import record_action
from tenants.errors import ExportRefused
from tenants.models import Action, ExportChunk, TenantExport, User


def download(export: TenantExport, *, by: User) -> StreamingHttpResponse:
    """Return the file, and record that it was downloaded: what a browser fetches ahead has left the
    server as well. Raise ExportRefused if it is not ready, or has expired."""
    if not export.is_downloadable:
        raise ExportRefused("This export is not ready, or has expired; request another one.")
    detail = {"export": str(export.pk), "rows": export.row_count}
    tenant = export.tenant
    record_action(
        Action.EXPORT_DOWNLOADED, tenant=tenant.pk, by=by, target=tenant.name, detail=detail
    )
    answer = StreamingHttpResponse(_pieces(export.chunks.all()), content_type="application/gzip")
    name = f"{slugify(tenant.name) or 'tenant'}-{export.finished_at:%Y%m%d-%H%M%S}.jsonl.gz"
    answer["Content-Disposition"] = f'attachment; filename="{name}"'
    # Where the file expires during a download, the client sees that it is cut off.
    answer["Content-Length"] = str(export.size_bytes)
    answer["Cache-Control"] = "no-store"
    return answer


async def _pieces(chunks: QuerySet[ExportChunk]) -> AsyncIterator[bytes]:
    data = chunks.values_list("data", flat=True)
    number = 0
    while (piece := await data.filter(number=number).afirst()) is not None:
        yield bytes(piece)
        number += 1
