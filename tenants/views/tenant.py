"""A tenant's page, for its admins: its credentials, its keys, its account at the broker."""

from dataclasses import replace
from functools import partial
from typing import Any
from uuid import UUID

from django import forms
from django.conf import settings
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.text import slugify
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_GET, require_http_methods, require_safe

from natsbridge.confirmation import Confirmation
from natsbridge.identity.usernames import tenant_username
from tenants.actions.limits import tenant_limits
from tenants.actions.one_time_secrets import reveal_secret, store_secret
from tenants.credentials import rotate as rotation
from tenants.credentials.issue import Issued, issue_tenant_credential
from tenants.credentials.revocations import revoke_credential
from tenants.credentials.rotate import devices_not_renewing, rotate_all, rotate_tenant
from tenants.forms.confirmations import ISSUE, REVOKE_CREDENTIAL, ROTATE, ROTATE_KEYS
from tenants.forms.credentials import RotateForm
from tenants.models import Credential, Tenant
from tenants.views.confirmation import confirm
from tenants.views.one_time import secret_gone
from tenants.views.page import PersonRequest, page, require_admin

CREDENTIALS_SHOWN = 50
NAMED = 10


@page
@require_safe
def tenant(request: PersonRequest, tenant_uuid: UUID) -> HttpResponse:
    found = _find(request, tenant_uuid, reading=True)
    own = found.credentials.filter(device_uuid=None).select_related("issued_by")
    context = {
        "tenant": found,
        "account": getattr(found, "broker_account", None),
        "credentials": own[:CREDENTIALS_SHOWN],
        "in_use": own.live().exists(),
        "username": tenant_username(found.pk),
        "device_count": found.devices.filter(archived_at=None).count(),
        "most_devices": tenant_limits(found)["max_devices"]["value"],
        "revoked_count": found.devices.filter(archived_at=None).exclude(revoked_at=None).count(),
        "archived_count": found.devices.exclude(archived_at=None).count(),
        "export": found.exports.first(),
    }
    return render(request, "tenants/tenant.html", context)


@page
@require_http_methods(["GET", "HEAD", "POST"])
def issue(request: PersonRequest, tenant_uuid: UUID) -> HttpResponse:
    found = _find(request, tenant_uuid)

    def do(form: forms.Form) -> HttpResponse:
        kind = form.cleaned_data["kind"]
        issued = issue_tenant_credential(found, kind=kind, by=request.user)
        return _to_secret(request, found, issued)

    return _asked(request, found, ISSUE, do)


@page
@sensitive_variables("revealed", "context")
@require_GET
def issued_credential(request: PersonRequest, tenant_uuid: UUID, secret_id: UUID) -> HttpResponse:
    found = _find(request, tenant_uuid)
    revealed = reveal_secret(secret_id, Credential, to=request.user)
    if revealed is None:
        return secret_gone(request, **_way_back(found))
    credential = get_object_or_404(found.credentials, pk=revealed.row_id)
    is_file = credential.kind == Credential.Kind.JWT
    context = {
        "tenant": found,
        "credential": credential,
        "secret": revealed.secret,
        "label": "Credentials file" if is_file else "Password",
        "before": credential.before(),
        "file_name": f"{slugify(found.name) or 'tenant'}.creds" if is_file else "",
        "nats_url": settings.AGENT_NATS_URL,
    }
    return render(request, "tenants/issued.html", context)


@page
@require_http_methods(["GET", "HEAD", "POST"])
def rotate(request: PersonRequest, tenant_uuid: UUID) -> HttpResponse:
    found = _find(request, tenant_uuid)

    def do(form: Any) -> HttpResponse:
        rotate = rotate_all if form.cleaned_data["every_device"] else rotate_tenant
        issued = rotate(found, by=request.user, replaces=form.replaced(found), **form.options())
        return _to_secret(request, found, issued)

    kept = devices_not_renewing(found)
    names = found.devices.filter(pk__in=kept[:NAMED]).values_list("name", flat=True)
    make_form = partial(
        RotateForm,
        initial={"seen": RotateForm.newest(found)},
        kept=len(kept),
        names=sorted(names),
    )
    return _asked(request, found, replace(ROTATE, form=make_form), do)


@page
@require_http_methods(["GET", "HEAD", "POST"])
def rotate_keys(request: PersonRequest, tenant_uuid: UUID) -> HttpResponse:
    found = _find(request, tenant_uuid)

    def do(form: forms.Form) -> HttpResponse:
        overlap = form.cleaned_data["overlap"]
        rotation.rotate_keys(found, by=request.user, overlap=overlap)
        return redirect("tenant", found.pk)

    return _asked(request, found, ROTATE_KEYS, do)


@page
@require_http_methods(["GET", "HEAD", "POST"])
def revoke(request: PersonRequest, tenant_uuid: UUID, credential_id: int) -> HttpResponse:
    found = _find(request, tenant_uuid)
    own = found.credentials.filter(device_uuid=None)
    credential = get_object_or_404(own, pk=credential_id)

    def do(form: forms.Form) -> HttpResponse:
        reason = form.cleaned_data["reason"]
        revoke_credential(credential, by=request.user, reason=reason)
        return redirect("tenant", found.pk)

    return _asked(request, found, REVOKE_CREDENTIAL, do)


def _to_secret(request: PersonRequest, tenant: Tenant, issued: Issued) -> HttpResponseRedirect:
    secret_id = store_secret(issued.secret, issued.credential, to=request.user)
    return redirect("tenant-credential-secret", tenant.pk, secret_id)


def _asked(
    request: PersonRequest, tenant: Tenant, confirmation: Confirmation, do: Any
) -> HttpResponse:
    return confirm(request, confirmation.about(tenant.name), do, **_way_back(tenant))


def _way_back(tenant: Tenant) -> dict[str, Any]:
    back = reverse("tenant", args=[tenant.pk])
    return {"back": back, "crumbs": [(reverse("fleet"), "Fleet"), (back, tenant.name)]}


def _find(request: PersonRequest, tenant_uuid: UUID, *, reading: bool = False) -> Tenant:
    visible = Tenant.objects.visible_to(request.user).select_related("broker_account")
    found = get_object_or_404(visible, pk=tenant_uuid)
    if not (reading and request.user.is_superuser):
        require_admin(request, found)
    return found
