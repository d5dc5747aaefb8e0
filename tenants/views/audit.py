"""The audit of the tenants that the reader administers."""

from django.core.exceptions import PermissionDenied
from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.views.decorators.http import require_safe

from tenants.audit.export import FORMATS, export
from tenants.audit.writer import record_export
from tenants.models import AuditEntry, Role, Tenant
from tenants.views.audit_filters import AuditFilters
from tenants.views.audit_rows import rows
from tenants.views.page import PersonRequest, page

ENTRIES_PER_PAGE = 50


@page
@require_safe
def audit(request: PersonRequest) -> HttpResponse:
    """Show the newest entries; `before` is the id of the last entry of the previous page."""
    filters = _filters(request)
    status, entries, following = 200, [], None
    if filters.is_valid():
        found = list(filters.entries().order_by("-id")[: ENTRIES_PER_PAGE + 1])
        entries = found[:ENTRIES_PER_PAGE]
        following = entries[-1].pk if len(found) > ENTRIES_PER_PAGE else None
    else:
        status = 422
    choices = Tenant.objects.visible_to(request.user, Role.ADMIN, reading=True)
    context = {
        "filters": filters,
        "rows": rows(entries, request.user),
        "several": not filters.data.get("tenant") and choices.count() > 1,
        "following": following,
        "formats": FORMATS,
    }
    return render(request, "tenants/audit.html", context, status=status)


@page
@require_safe
def export_audit(request: PersonRequest) -> HttpResponseBase:
    filters = _filters(request)
    format = request.GET.get("format", "csv")
    if not filters.is_valid() or format not in FORMATS:
        return render(request, "tenants/audit.html", {"filters": filters}, status=422)
    for tenant in filters.tenants():
        record_export(tenant.pk, by=request.user, format=format, wanted=filters.described())
    return export(filters.entries(), format)


def _filters(request: PersonRequest) -> AuditFilters:
    if not Tenant.objects.visible_to(request.user, Role.ADMIN, reading=True).exists():
        raise PermissionDenied("The audit is for admins of a tenant.")
    entries = AuditEntry.objects.visible_to(request.user, Role.ADMIN, reading=True)
    return AuditFilters(request.GET, entries, request.user)
