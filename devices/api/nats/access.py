"""Return the devices and commands that a caller may reach; to others the answer is 404."""

from collections.abc import Collection
from typing import NoReturn
from uuid import UUID

from django.db.models import QuerySet
from rest_framework.exceptions import NotFound, PermissionDenied
from rest_framework.request import Request

from devices.api.authentication import DevicePrincipal
from devices.models import Command, Device
from tenants.api.base.permissions import person_of, require
from tenants.models import Role, User


def device_for(request: Request, uuid: UUID, *, role: Role = Role.VIEWER) -> Device:
    """Return the device, for a person with the role in its tenant, or for the device itself.

    Raise NotFound for a caller who may not know of it, PermissionDenied without the role.
    """
    caller = request.user
    if isinstance(caller, DevicePrincipal):
        if caller.device.pk != uuid:
            _no_such_device(uuid)
        return caller.device
    device = _with_owner(Device.objects.visible_to(caller)).filter(pk=uuid).first()
    if device is None:
        _no_such_device(uuid)
    require(request, device.tenant_id, role)
    return device


def administered_device(request: Request, uuid: UUID) -> tuple[User, Device]:
    """Return the caller and the device, for an admin of its tenant."""
    return person_of(request), device_for(request, uuid, role=Role.ADMIN)


def own_device(request: Request, uuid: UUID) -> Device:
    """Return the device to itself and to nobody else."""
    if isinstance(request.user, DevicePrincipal) and request.user.device.pk == uuid:
        return request.user.device
    if not isinstance(request.user, DevicePrincipal):
        device_for(request, uuid)
        raise PermissionDenied("Only the device itself may do this, with its own token.")
    _no_such_device(uuid)


def command_for(
    request: Request, uuid: UUID, *, role: Role = Role.VIEWER, deferred: Collection[str] = ()
) -> Command:
    """Return the command, for people with the role in its tenant; `deferred` fields are not loaded.
    Raise NotFound or PermissionDenied."""
    commands = Command.objects.none()
    if not isinstance(request.user, DevicePrincipal):
        commands = Command.objects.visible_to(request.user)
    command = (
        commands.filter(uuid=uuid)
        .select_related("device__connectivity", "device__tenant", "retry_of", "bulk")
        .defer(*deferred)
        .first()
    )
    if command is None:
        raise NotFound(f"There is no command {uuid}.")
    require(request, command.device.tenant_id, role)
    return command


def _with_owner(devices: QuerySet[Device]) -> QuerySet[Device]:
    return devices.select_related("tenant", "group__organisation", "connectivity")


def _no_such_device(uuid: UUID) -> NoReturn:
    raise NotFound(f"There is no device {uuid}.")
