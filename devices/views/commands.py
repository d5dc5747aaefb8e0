import json
from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from devices.commands.issue import cancel, issue, retry
from devices.errors import DevicesError
from devices.forms.command import CommandForm
from devices.models import Command, Device
from devices.presence.coverage import current_cutoffs
from devices.views.device import render_device
from devices.views.parts import (
    capabilities_of,
    commands_of,
    find_device,
    form_context,
    history_of,
    row_context,
)
from tenants.models import Role, has_role
from tenants.views.page import PersonRequest, page, wants_fragment


@page
@require_safe
def command_form(request: PersonRequest, device_uuid: UUID) -> HttpResponse:
    """Render the fields of the chosen command (`?command=`)."""
    found = find_device(request, device_uuid)
    return render(request, "devices/_command_form.html", form_context(request, found))


@page
@require_http_methods(["GET", "HEAD", "POST"])
def commands(request: PersonRequest, device_uuid: UUID) -> HttpResponse:
    """GET: a page of the history. POST: issue a command."""
    found = find_device(request, device_uuid)
    if request.method == "POST":
        return _issue(request, found)
    if not wants_fragment(request):
        return redirect("device", device_uuid)
    context = row_context(request, found) | {
        "history": history_of(request, found, request.GET.get("page")),
    }
    return render(request, "devices/_history.html", context)


def _issue(request: PersonRequest, found: Device) -> HttpResponse:
    if not has_role(request.user, found.tenant_id, Role.OPERATOR):
        raise PermissionDenied("Sending commands needs the role operator in this tenant.")
    name = request.POST.get("command", "").strip()
    capability = next((each for each in capabilities_of(found) if each.name == name), None)
    form = CommandForm(name, capability, request.POST)
    issued = None
    if form.is_valid():
        try:
            issued = issue(
                found,
                form.cleaned_data["command"],
                form.parameter_values(),
                by=request.user,
                deadline=form.cleaned_data["deadline"],
            )
        except DevicesError as error:
            form.add_error(None, str(error))
    if issued and not wants_fragment(request):
        return redirect(reverse("device", args=[found.pk]) + "#commands")
    context = form_context(request, found, CommandForm(name, capability) if issued else form)
    context |= {
        "capability": capability,
        "issued": issued,
        "reachable": found.is_connected(current_cutoffs()),
    }
    status = 200 if issued else 422
    if not wants_fragment(request):
        return render_device(request, found, context, status)
    return render(request, "devices/_command_form.html", context, status=status)


def _render_command(
    request: PersonRequest, found: Device, command_uuid: UUID, notice: str = "", status: int = 200
) -> HttpResponse:
    context = row_context(request, found) | {
        "command": get_object_or_404(commands_of(request, found), uuid=command_uuid),
        "notice": notice,
        "open": True,
    }
    template = "devices/_command.html" if wants_fragment(request) else "devices/command.html"
    return render(request, template, context, status=status)


@page
@require_safe
def command(request: PersonRequest, device_uuid: UUID, command_uuid: UUID) -> HttpResponse:
    return _render_command(request, find_device(request, device_uuid), command_uuid)


@page
@require_POST
def cancel_command(request: PersonRequest, device_uuid: UUID, command_uuid: UUID) -> HttpResponse:
    found = find_device(request, device_uuid)
    if not has_role(request.user, found.tenant_id, Role.OPERATOR):
        raise PermissionDenied("Cancelling commands needs the role operator in this tenant.")
    unwanted = get_object_or_404(commands_of(request, found), uuid=command_uuid)
    try:
        cancel(unwanted, by=request.user)
    except DevicesError as error:
        return _render_command(request, found, command_uuid, str(error), status=409)
    return _render_command(request, found, command_uuid)


@page
@require_POST
def retry_command(request: PersonRequest, device_uuid: UUID, command_uuid: UUID) -> HttpResponse:
    found = find_device(request, device_uuid)
    if not has_role(request.user, found.tenant_id, Role.OPERATOR):
        raise PermissionDenied("Retrying commands needs the role operator in this tenant.")
    ended = get_object_or_404(commands_of(request, found), uuid=command_uuid)
    try:
        again = retry(ended, by=request.user)
    except DevicesError as error:
        return _render_command(request, found, command_uuid, str(error), status=409)
    # The answer to htmx would replace the row of the command that is retried.
    if wants_fragment(request):
        return HttpResponse(status=204, headers={"HX-Trigger": _trigger("issued", again)})
    return redirect("device-command", found.pk, again.uuid)


def _trigger(event: str, command: Command) -> str:
    return json.dumps({event: {"command": str(command.uuid)}})
