"""Export the audit as CSV and JSON lines."""

from django.db.models import QuerySet
from django.http import StreamingHttpResponse

from tenants.downloads import FORMATS, download
from tenants.models import AuditEntry

__all__ = ["FORMATS", "export"]

COLUMNS = (
    *("id", "at", "tenant_uuid", "action", "actor_kind", "actor", "actor_id", "device_uuid"),
    *("target", "address", "via", "count", "detail", "sequence", "seal"),
)


def export(entries: QuerySet[AuditEntry], format: str) -> StreamingHttpResponse:
    """Return a file of the entries there are now, the oldest first."""
    return download(entries, {name: name for name in COLUMNS}, format=format, name="audit")
