"""What people record about a device: its name, group, tags, fields and notes, and the archive."""

from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID

from django import forms
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from devices.forms.confirmations import ARCHIVE, EDIT, UNARCHIVE
from devices.forms.inventory import DetailsForm, NoteForm
from devices.inventory.archive import archive_device, unarchive_device
from devices.inventory.changes import change_device
from devices.inventory.notes import add_note, delete_note
from devices.models import Device, Note
from devices.views.device import render_device
from devices.views.parts import details_context, find_device, form_context
from natsbridge.confirmation import Confirmation
from tenants.models import Role, has_role
from tenants.views.confirmation import confirm
from tenants.views.page import PersonRequest, page


@page
@require_safe
def details(request: PersonRequest, device_uuid: UUID) -> HttpResponse:
    found = find_device(request, device_uuid)
    return render(request, "devices/_details.html", details_context(request, found))


@page
@require_http_methods(["GET", "HEAD", "POST"])
def edit(request: PersonRequest, device_uuid: UUID) -> HttpResponse:
    def carry_out(device: Device, form: Any) -> None:
        change_device(device, **form.changes(), by=request.user)

    device = find_device(request, device_uuid)
    form = partial(DetailsForm, device=device, person=request.user)
    return _asked(request, device, Role.OPERATOR, EDIT.with_form(form), carry_out)


@page
@require_http_methods(["GET", "HEAD", "POST"])
def archive(request: PersonRequest, device_uuid: UUID) -> HttpResponse:
    def carry_out(device: Device, form: forms.Form) -> None:
        archive_device(device, by=request.user, reason=form.cleaned_data["reason"])

    return _asked(request, find_device(request, device_uuid), Role.ADMIN, ARCHIVE, carry_out)


@page
@require_http_methods(["GET", "HEAD", "POST"])
def unarchive(request: PersonRequest, device_uuid: UUID) -> HttpResponse:
    def carry_out(device: Device, form: forms.Form) -> None:
        unarchive_device(device, by=request.user)

    return _asked(request, find_device(request, device_uuid), Role.ADMIN, UNARCHIVE, carry_out)


@page
@require_POST
def write_note(request: PersonRequest, device_uuid: UUID) -> HttpResponse:
    device = find_device(request, device_uuid)
    _require(request, device, Role.OPERATOR)
    form = NoteForm(request.POST)
    if form.is_valid():
        add_note(device, form.cleaned_data["text"], by=request.user)
        return redirect(f"{reverse('device', args=[device.pk])}#notes")
    context = form_context(request, device)
    return render_device(request, device, context | {"note_form": form}, status=422)


@page
@require_POST
def remove_note(request: PersonRequest, device_uuid: UUID, note_uuid: UUID) -> HttpResponse:
    device = find_device(request, device_uuid)
    visible = Note.objects.visible_to(request.user).filter(device=device).select_related("device")
    note = get_object_or_404(visible, pk=note_uuid)
    own = note.author_id == request.user.pk
    _require(request, device, Role.OPERATOR if own else Role.ADMIN)
    delete_note(note, by=request.user)
    return redirect(f"{reverse('device', args=[device.pk])}#notes")


def _require(request: PersonRequest, device: Device, role: Role) -> None:
    if not has_role(request.user, device.tenant_id, role):
        raise PermissionDenied(f"This needs the role {role} in this tenant.")


def _asked(
    request: PersonRequest,
    device: Device,
    role: Role,
    confirmation: Confirmation,
    carry_out: Callable[[Device, Any], None],
) -> HttpResponse:
    _require(request, device, role)
    back = reverse("device", args=[device.pk])

    def do(form: forms.Form) -> HttpResponse:
        carry_out(device, form)
        return redirect(back)

    return confirm(
        request,
        confirmation.about(device.name),
        do,
        back=back,
        crumbs=[(reverse("fleet"), "Fleet"), (back, device.name)],
    )
