"""What an admin of the tenant does with a device, each after a page that asks for confirmation."""

from collections.abc import Callable
from uuid import UUID

from django import forms
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe

from devices.enrolment import credentials
from devices.forms.confirmations import DELETE, REINSTATE, REVOKE, ROTATE
from devices.models import Device
from devices.views.parts import find_device
from natsbridge.confirmation import Confirmation
from tenants.views.confirmation import confirm
from tenants.views.page import PersonRequest, page, require_admin

CREDENTIALS_SHOWN = 50


@page
@require_safe
def device_credentials(request: PersonRequest, device_uuid: UUID) -> HttpResponse:
    """List its credentials for the broker, past and present, without their secrets."""
    device = find_device(request, device_uuid)
    require_admin(request, device.tenant)
    rows = device.tenant.credentials.filter(device_uuid=device.pk)
    context = {"device": device, "credentials": rows[:CREDENTIALS_SHOWN]}
    return render(request, "devices/credentials.html", context)


@page
@require_http_methods(["GET", "HEAD", "POST"])
def revoke(request: PersonRequest, device_uuid: UUID) -> HttpResponse:
    def carry_out(device: Device, form: forms.Form) -> None:
        credentials.revoke_device(device, by=request.user, reason=form.cleaned_data["reason"])

    return _asked(request, device_uuid, REVOKE, carry_out)


@page
@require_http_methods(["GET", "HEAD", "POST"])
def reinstate(request: PersonRequest, device_uuid: UUID) -> HttpResponse:
    def carry_out(device: Device, form: forms.Form) -> None:
        credentials.reinstate_device(device, by=request.user)

    return _asked(request, device_uuid, REINSTATE, carry_out)


@page
@require_http_methods(["GET", "HEAD", "POST"])
def rotate(request: PersonRequest, device_uuid: UUID) -> HttpResponse:
    def carry_out(device: Device, form: forms.Form) -> None:
        credentials.rotate_device(device, by=request.user, overlap=form.cleaned_data["overlap"])

    return _asked(request, device_uuid, ROTATE, carry_out)


@page
@require_http_methods(["GET", "HEAD", "POST"])
def delete(request: PersonRequest, device_uuid: UUID) -> HttpResponse:
    def carry_out(device: Device, form: forms.Form) -> None:
        reason = form.cleaned_data["reason"]
        credentials.delete_devices([device], by=request.user, reason=reason)

    return _asked(request, device_uuid, DELETE, carry_out, then=reverse("fleet"))


def _asked(
    request: PersonRequest,
    device_uuid: UUID,
    confirmation: Confirmation,
    carry_out: Callable[[Device, forms.Form], None],
    then: str | None = None,
) -> HttpResponse:
    device = find_device(request, device_uuid)
    require_admin(request, device.tenant)
    back = reverse("device", args=[device.pk])

    def do(form: forms.Form) -> HttpResponse:
        carry_out(device, form)
        return redirect(then or back)

    return confirm(
        request,
        confirmation.about(device.name),
        do,
        back=back,
        crumbs=[(reverse("fleet"), "Fleet"), (back, device.name)],
    )
