"""The tags and custom fields of a tenant, which its admins define."""

from functools import partial
from typing import Any
from uuid import UUID

from django.db.models import Count
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe

from devices.forms.confirmations import (
    CHANGE_FIELD,
    DELETE_FIELD,
    DELETE_TAG,
    NEW_FIELD,
    NEW_TAG,
    RENAME_TAG,
)
from devices.forms.inventory import ChangeFieldForm, TagForm
from devices.inventory import custom_fields, tags
from devices.inventory.rules import FieldType
from devices.models import CustomField, Tag
from natsbridge.confirmation import Confirmation
from tenants.models import Tenant
from tenants.views.confirmation import confirm
from tenants.views.page import PersonRequest, page, require_admin


@page
@require_safe
def definitions(request: PersonRequest, tenant_uuid: UUID) -> HttpResponse:
    tenant = _find(request, tenant_uuid)
    shown = Tag.objects.visible_to(request.user).filter(tenant=tenant)
    context = {
        "tenant": tenant,
        "tags": shown.annotate(device_count=Count("devices")).order_by("name"),
        "fields": CustomField.objects.visible_to(request.user).filter(tenant=tenant),
    }
    return render(request, "devices/definitions.html", context)


@page
@require_http_methods(["GET", "HEAD", "POST"])
def new_tag(request: PersonRequest, tenant_uuid: UUID) -> HttpResponse:
    tenant = _find(request, tenant_uuid)

    def do(form: Any) -> None:
        tags.create_tag(tenant, form.cleaned_data["name"], by=request.user)

    return _asked(request, tenant, NEW_TAG.about(tenant.name), do)


@page
@require_http_methods(["GET", "HEAD", "POST"])
def rename_tag(request: PersonRequest, tenant_uuid: UUID, tag_uuid: UUID) -> HttpResponse:
    tenant, tag = _find_tag(request, tenant_uuid, tag_uuid)

    def do(form: Any) -> None:
        tags.rename_tag(tag, form.cleaned_data["name"], by=request.user)

    form = partial(TagForm, initial={"name": tag.name})
    return _asked(request, tenant, RENAME_TAG.about(tag.name).with_form(form), do)


@page
@require_http_methods(["GET", "HEAD", "POST"])
def delete_tag(request: PersonRequest, tenant_uuid: UUID, tag_uuid: UUID) -> HttpResponse:
    tenant, tag = _find_tag(request, tenant_uuid, tag_uuid)

    def do(form: Any) -> None:
        tags.delete_tag(tag, by=request.user)

    return _asked(request, tenant, DELETE_TAG.about(tag.name), do)


@page
@require_http_methods(["GET", "HEAD", "POST"])
def new_field(request: PersonRequest, tenant_uuid: UUID) -> HttpResponse:
    tenant = _find(request, tenant_uuid)

    def do(form: Any) -> None:
        wanted = form.cleaned_data
        kind = FieldType(wanted["type"])
        custom_fields.create_field(tenant, wanted["name"], kind, wanted["choices"], by=request.user)

    return _asked(request, tenant, NEW_FIELD.about(tenant.name), do)


@page
@require_http_methods(["GET", "HEAD", "POST"])
def change_field(request: PersonRequest, tenant_uuid: UUID, field_uuid: UUID) -> HttpResponse:
    tenant, field = _find_field(request, tenant_uuid, field_uuid)

    def do(form: Any) -> None:
        custom_fields.change_field(field, **form.cleaned_data, by=request.user)

    form = partial(ChangeFieldForm, field=field)
    return _asked(request, tenant, CHANGE_FIELD.about(field.name).with_form(form), do)


@page
@require_http_methods(["GET", "HEAD", "POST"])
def delete_field(request: PersonRequest, tenant_uuid: UUID, field_uuid: UUID) -> HttpResponse:
    tenant, field = _find_field(request, tenant_uuid, field_uuid)

    def do(form: Any) -> None:
        custom_fields.delete_field(field, by=request.user)

    return _asked(request, tenant, DELETE_FIELD.about(field.name), do)


def _asked(
    request: PersonRequest, tenant: Tenant, confirmation: Confirmation, carry_out: Any
) -> HttpResponse:
    back = reverse("tenant-definitions", args=[tenant.pk])

    def do(form: Any) -> HttpResponse:
        carry_out(form)
        return redirect(back)

    crumbs = [
        (reverse("fleet"), "Fleet"),
        (reverse("tenant", args=[tenant.pk]), tenant.name),
        (back, "Tags and fields"),
    ]
    return confirm(request, confirmation, do, back=back, crumbs=crumbs)


def _find(request: PersonRequest, tenant_uuid: UUID) -> Tenant:
    found: Tenant = get_object_or_404(Tenant.objects.visible_to(request.user), pk=tenant_uuid)
    require_admin(request, found)
    return found


def _find_tag(request: PersonRequest, tenant_uuid: UUID, tag_uuid: UUID) -> tuple[Tenant, Tag]:
    tenant = _find(request, tenant_uuid)
    rows = Tag.objects.visible_to(request.user).filter(tenant=tenant)
    return tenant, get_object_or_404(rows, pk=tag_uuid)


def _find_field(
    request: PersonRequest, tenant_uuid: UUID, field_uuid: UUID
) -> tuple[Tenant, CustomField]:
    tenant = _find(request, tenant_uuid)
    rows = CustomField.objects.visible_to(request.user).filter(tenant=tenant)
    return tenant, get_object_or_404(rows, pk=field_uuid)
