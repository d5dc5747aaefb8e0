"""Build the contexts of the device's page and its fragments."""

from typing import Any
from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.core.paginator import Page, Paginator
from django.http import Http404
from django.shortcuts import get_object_or_404

from devices.commands.rules.capabilities import Capability, read_capabilities
from devices.forms.command import CommandForm
from devices.forms.inventory import NoteForm
from devices.models import Command, CustomField, Device, Note
from devices.models.command import CommandQuerySet
from devices.presence.coverage import current_cutoffs
from tenants.models import Role, User, has_role
from tenants.views.page import PersonRequest

COMMANDS_PER_PAGE = 20
NOTES_SHOWN = 50


def find_device(request: PersonRequest, device_uuid: UUID) -> Device:
    visible = Device.objects.visible_to(request.user)
    found = visible.select_related("connectivity", "tenant", "group__organisation")
    try:
        return get_object_or_404(found, pk=device_uuid)
    except Http404:
        _tell_staff(request.user, device_uuid)
        raise


def _tell_staff(person: User, device_uuid: UUID) -> None:
    """Raise PermissionDenied for staff, to whom the admin lists the device: 404 hides nothing."""
    hidden = Device.objects.managed_by(person).filter(pk=device_uuid).select_related("tenant")
    if device := hidden.first():
        raise PermissionDenied(
            f"You are not a member of {device.tenant.name}. As staff you see {device.name} in the "
            "admin; its live page needs a membership."
        )


def capabilities_of(device: Device) -> list[Capability]:
    connectivity = getattr(device, "connectivity", None)
    return read_capabilities(connectivity.capabilities if connectivity else {})


def form_context(
    request: PersonRequest, found: Device, form: CommandForm | None = None
) -> dict[str, Any]:
    available = capabilities_of(found)
    chosen = request.GET.get("command", available[0].name if available else "")
    capability = next((each for each in available if each.name == chosen), None)
    return {
        "device": found,
        "capabilities": available,
        "capability": capability,
        "form": form or CommandForm(chosen, capability),
        "may_command": has_role(request.user, found.tenant_id, Role.OPERATOR),
    }


def row_context(request: PersonRequest, found: Device) -> dict[str, Any]:
    """Return what the rows of a device's commands show besides the command itself."""
    return {
        "device": found,
        "may_command": has_role(request.user, found.tenant_id, Role.OPERATOR),
        "offline_since": found.offline_since(current_cutoffs()),
    }


def commands_of(request: PersonRequest, found: Device) -> CommandQuerySet:
    visible = Command.objects.visible_to(request.user)
    return visible.filter(device=found).select_related("created_by", "retry_of", "bulk")


def history_of(request: PersonRequest, found: Device, number: str | None) -> Page[Command]:
    """Return a page of its commands without their results, which may be large."""
    return Paginator(commands_of(request, found).defer("result"), COMMANDS_PER_PAGE).get_page(
        number
    )


def details_context(request: PersonRequest, device: Device) -> dict[str, Any]:
    """Return what the page says of a device that people have recorded."""
    fields = CustomField.objects.visible_to(request.user).filter(tenant=device.tenant_id)
    held = device.custom_values
    notes = Note.objects.visible_to(request.user).filter(device=device)
    return {
        "device": device,
        "tags": device.tags.all(),
        "values": [(field, held[field.key]) for field in fields if field.key in held],
        "notes": notes[:NOTES_SHOWN],
        "note_form": NoteForm(),
        "may_edit": has_role(request.user, device.tenant_id, Role.OPERATOR),
        "may_administer": has_role(request.user, device.tenant_id, Role.ADMIN),
    }
