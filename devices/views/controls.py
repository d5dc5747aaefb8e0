"""What an admin of the tenant does with a device, each on a page of its own that asks first."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django import forms
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe

from devices.enrolment import credentials
from devices.errors import DevicesError
from devices.models import Device
from devices.views.page import PersonRequest, page
from devices.views.parts import find_device
from tenants.errors import TenantsError
from tenants.forms.credentials import ConfirmForm, OverlapForm, ReasonForm
from tenants.models import Role, Tenant, role_in

CREDENTIALS_SHOWN = 50


@dataclass(frozen=True)
class Question:
    """What is asked before it is done."""

    title: str
    text: str
    button: str
    form: type[forms.Form] = ConfirmForm
    dangerous: bool = True


REVOKE = Question(
    "Revoke {}",
    "Its connection ends within a second, and neither its credentials nor its token open anything "
    "until it is reinstated. What it has reported stays.",
    "Revoke the device",
    ReasonForm,
)
REINSTATE = Question(
    "Reinstate {}",
    "Its token opens its endpoints again, so its agent fetches a new credential and comes back.",
    "Reinstate the device",
    dangerous=False,
)
ROTATE = Question(
    "Rotate the credential of {}",
    "Its agent is told to fetch a new credential, when it is online, and loses no message by it.",
    "Rotate the credential",
    OverlapForm,
    dangerous=False,
)
DELETE = Question(
    "Delete {}",
    "All that is known of it goes with it: its commands, their results, its history. Its "
    "credentials are void, and its agent has to enrol anew. This cannot be undone.",
    "Delete the device",
    ReasonForm,
)


@page
@require_safe
def device_credentials(request: PersonRequest, device_uuid: UUID) -> HttpResponse:
    """What opens the broker for it, and has: never a secret."""
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
    question: Question,
    carry_out: Callable[[Device, forms.Form], None],
    then: str | None = None,
) -> HttpResponse:
    device = find_device(request, device_uuid)
    require_admin(request, device.tenant)
    back = reverse("device", args=[device.pk])

    def do(form: forms.Form) -> HttpResponse:
        carry_out(device, form)
        return redirect(then or back)

    return ask(
        request,
        question,
        do,
        question.form,
        title=question.title.format(device.name),
        back=back,
        crumbs=[(reverse("fleet"), "Fleet"), (back, device.name)],
    )


def ask(
    request: PersonRequest,
    question: Question,
    do: Callable[[Any], HttpResponse],
    make_form: Callable[..., forms.Form],
    **context: Any,
) -> HttpResponse:
    """GET: the question with its form. POST: what `do` answers; or the form again, with what was
    wrong with it (422) or why it was refused (409)."""
    form = make_form(request.POST) if request.method == "POST" else make_form()
    status = 200
    if form.is_bound:
        status = 422
        if form.is_valid():
            try:
                return do(form)
            except (DevicesError, TenantsError) as error:
                form.add_error(None, str(error))
                status = 409
    shown = {"question": question, "form": form, **context}
    return render(request, "devices/question.html", shown, status=status)


def require_admin(request: PersonRequest, tenant: Tenant) -> None:
    role = role_in(request.user, tenant.pk)
    if role is None or not role.includes(Role.ADMIN):
        raise PermissionDenied("This needs the role admin in this tenant.")
