"""The page on which an admin brings over a fleet that was registered elsewhere."""

from dataclasses import replace
from functools import partial
from typing import Any
from uuid import UUID

from django.conf import settings
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.text import slugify
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from devices.errors import DevicesError
from devices.forms.onboarding import (
    COMPLETE,
    REOPEN,
    UNDO,
    UNDO_IMPORT,
    GroupForm,
    ImportForm,
    TokensForm,
)
from devices.models import DeviceImport
from devices.onboarding import imports, upgrades
from devices.onboarding.imports import ImportReport
from natsbridge.confirmation import Confirmation
from tenants.actions.one_time_secrets import reveal_secret, store_secret
from tenants.errors import TenantsError
from tenants.models import Role, Tenant, has_role
from tenants.views.confirmation import confirm
from tenants.views.one_time import secret_gone
from tenants.views.page import PersonRequest, page, require_admin, wants_fragment

IMPORTS_SHOWN = 20


@page
@require_http_methods(["GET", "HEAD", "POST"])
def migration(request: PersonRequest, tenant_uuid: UUID) -> HttpResponse:
    """GET: show the progress and the forms; for htmx, the progress. POST: look at a CSV file, or
    import it."""
    tenant = _find(request, tenant_uuid, reading=request.method != "POST")
    if wants_fragment(request):
        return render(request, "devices/_migration_progress.html", _progress(tenant))
    if request.method != "POST":
        return _render(request, tenant)
    form = ImportForm(request.POST, files=request.FILES, person=request.user, tenant=tenant)
    if not form.is_valid():
        return _render(request, tenant, import_form=form, status=422)
    try:
        report = _examined_or_imported(request, tenant, form)
    except DevicesError as error:
        form.add_error(None, str(error))
        errors = getattr(error, "errors", ())
        return _render(request, tenant, import_form=form, errors=errors, status=409)
    if report.record:
        return redirect("tenant-migration", tenant.pk)
    status = 422 if report.errors else 200
    return _render(
        request, tenant, import_form=form, report=report, errors=report.errors, status=status
    )


@page
@sensitive_variables("issued")
@require_POST
def tokens(request: PersonRequest, tenant_uuid: UUID) -> HttpResponse:
    tenant = _find(request, tenant_uuid)
    form = TokensForm(request.POST, person=request.user, tenant=tenant)
    if not form.is_valid():
        return _render(request, tenant, tokens_form=form, status=422)
    try:
        issued = upgrades.issue_tokens(tenant, by=request.user, **form.cleaned_data)
    except TenantsError as error:
        form.add_error(None, str(error))
        return _render(request, tenant, tokens_form=form, status=409)
    if not issued:
        form.add_error(None, "All of these devices hold a token already, or have logged in.")
        return _render(request, tenant, tokens_form=form, status=409)
    text = upgrades.token_lines(issued).decode()
    secret_id = store_secret(text, tenant, to=request.user)
    return redirect("tenant-migration-tokens-issued", tenant.pk, secret_id)


@page
@sensitive_variables("revealed", "context")
@require_GET
def tokens_issued(request: PersonRequest, tenant_uuid: UUID, secret_id: UUID) -> HttpResponse:
    tenant = _find(request, tenant_uuid)
    revealed = reveal_secret(secret_id, Tenant, to=request.user)
    if revealed is None:
        return secret_gone(request, **_way_back(tenant))
    context = {
        "tenant": tenant,
        "secret": revealed.secret,
        "count": revealed.secret.count("\n"),
        "label": "Device tokens",
        "public_url": settings.PUBLIC_URL,
        "file_name": f"{slugify(tenant.name) or 'tenant'}-tokens.jsonl",
    }
    return render(request, "devices/tokens_issued.html", context)


@page
@require_http_methods(["GET", "HEAD", "POST"])
def undo(request: PersonRequest, tenant_uuid: UUID) -> HttpResponse:
    tenant = _find(request, tenant_uuid)

    def do(form: Any) -> HttpResponse:
        upgrades.undo_upgrades(tenant, form.cleaned_data["group"], by=request.user)
        return redirect("tenant-migration", tenant.pk)

    make_form = partial(GroupForm, person=request.user, tenant=tenant)
    return _asked(request, tenant, replace(UNDO, form=make_form), do)


@page
@require_http_methods(["GET", "HEAD", "POST"])
def undo_import(request: PersonRequest, tenant_uuid: UUID, import_uuid: UUID) -> HttpResponse:
    tenant = _find(request, tenant_uuid)
    visible = DeviceImport.objects.visible_to(request.user, Role.ADMIN).filter(tenant=tenant)
    record = get_object_or_404(visible, pk=import_uuid)

    def do(form: Any) -> HttpResponse:
        imports.undo_import(record, by=request.user)
        return redirect("tenant-migration", tenant.pk)

    about = f"the import of {record.device_count:,} devices"
    return _asked(request, tenant, UNDO_IMPORT, do, about)


@page
@require_http_methods(["GET", "HEAD", "POST"])
def complete(request: PersonRequest, tenant_uuid: UUID) -> HttpResponse:
    tenant = _find(request, tenant_uuid)

    def do(form: Any) -> HttpResponse:
        upgrades.mark_migrated(tenant, by=request.user, **form.cleaned_data)
        return redirect("tenant-migration", tenant.pk)

    return _asked(request, tenant, COMPLETE, do)


@page
@require_http_methods(["GET", "HEAD", "POST"])
def reopen(request: PersonRequest, tenant_uuid: UUID) -> HttpResponse:
    tenant = _find(request, tenant_uuid)

    def do(form: Any) -> HttpResponse:
        upgrades.unmark_migrated(tenant, by=request.user)
        return redirect("tenant-migration", tenant.pk)

    return _asked(request, tenant, REOPEN, do)


def _examined_or_imported(request: PersonRequest, tenant: Tenant, form: ImportForm) -> ImportReport:
    group = form.cleaned_data["group"]
    if "import" in request.POST:
        return imports.import_devices(tenant, form.rows(), group=group, by=request.user)
    return imports.examine(tenant, form.rows(), group=group)


def _render(
    request: PersonRequest, tenant: Tenant, status: int = 200, **given: Any
) -> HttpResponse:
    whose: dict[str, Any] = {"person": request.user, "tenant": tenant}
    visible = DeviceImport.objects.visible_to(request.user).filter(tenant=tenant)
    context = {
        "import_form": ImportForm(**whose),
        "tokens_form": TokensForm(**whose, auto_id="tokens_%s"),
        "imports": visible[:IMPORTS_SHOWN],
        "groups": upgrades.progress_by_group(tenant),
        "may_administer": has_role(request.user, tenant.pk, Role.ADMIN),
        **_progress(tenant),
        **given,
    }
    return render(request, "devices/migration.html", context, status=status)


def _progress(tenant: Tenant) -> dict[str, Any]:
    """Return the progress, and its bar as parts of a width of 1000."""
    progress = upgrades.progress(tenant)
    bar, left = [], 0.0
    for state, name, count in (
        ("succeeded", "Logged in", progress.seen),
        ("expired", "Issued a token, not logged in", max(progress.issued - progress.seen, 0)),
    ):
        width = 1000 * count / progress.registered if progress.registered else 0
        bar.append({"state": state, "name": name, "x": left, "width": width})
        left += width
    return {"tenant": tenant, "progress": progress, "bar": bar}


def _asked(
    request: PersonRequest, tenant: Tenant, confirmation: Confirmation, do: Any, about: str = ""
) -> HttpResponse:
    return confirm(request, confirmation.about(about or tenant.name), do, **_way_back(tenant))


def _way_back(tenant: Tenant) -> dict[str, Any]:
    own, back = reverse("tenant", args=[tenant.pk]), reverse("tenant-migration", args=[tenant.pk])
    crumbs = [(reverse("fleet"), "Fleet"), (own, tenant.name), (back, "Migration")]
    return {"back": back, "crumbs": crumbs}


def _find(request: PersonRequest, tenant_uuid: UUID, *, reading: bool = False) -> Tenant:
    tenant = get_object_or_404(Tenant.objects.visible_to(request.user), pk=tenant_uuid)
    if not (reading and request.user.is_superuser):
        require_admin(request, tenant)
    return tenant
