"""An admin's export of a tenant: request one, see whether it is ready, download it."""

from contextlib import suppress
from uuid import UUID

from django.http import HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_POST, require_safe

from tenants.errors import ExportRefused
from tenants.export.download import download
from tenants.export.exports import request_export
from tenants.models import Role, Tenant, TenantExport
from tenants.views.page import PersonRequest, page, require_admin


@page
@require_POST
def request_one(request: PersonRequest, tenant_uuid: UUID) -> HttpResponse:
    tenant = _find(request, tenant_uuid)
    # Where somebody else was faster, the page shows that one.
    with suppress(ExportRefused):
        request_export(tenant, by=request.user)
    return redirect("tenant", tenant.pk)


@page
@require_safe
def state(request: PersonRequest, tenant_uuid: UUID) -> HttpResponse:
    tenant = _find(request, tenant_uuid)
    context = {"tenant": tenant, "export": tenant.exports.first()}
    return render(request, "tenants/_export.html", context)


@page
@require_GET
def download_one(request: PersonRequest, tenant_uuid: UUID, export_uuid: UUID) -> HttpResponseBase:
    tenant = _find(request, tenant_uuid)
    visible = TenantExport.objects.visible_to(request.user, Role.ADMIN).filter(tenant=tenant)
    return download(get_object_or_404(visible, pk=export_uuid), by=request.user)


def _find(request: PersonRequest, tenant_uuid: UUID) -> Tenant:
    tenant = get_object_or_404(Tenant.objects.visible_to(request.user), pk=tenant_uuid)
    require_admin(request, tenant)
    return tenant
