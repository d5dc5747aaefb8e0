"""What a caller of the API may reach. What another tenant owns does not exist for it: 404."""

from typing import NoReturn
from uuid import UUID

from django.db.models import QuerySet
from rest_framework.exceptions import NotFound, PermissionDenied
from rest_framework.request import Request

from devices.api.authentication import DevicePrincipal
from devices.models import Command, Device
from tenants.models import ApiToken, Role, User, role_in


def device_for(request: Request, uuid: UUID, *, role: Role = Role.VIEWER) -> Device:
    """The device, for a person with the role in its tenant, or for the device itself.

    Raises NotFound where the caller may not know of it, PermissionDenied where the role is
    missing.
    """
    caller = request.user
    if isinstance(caller, DevicePrincipal):
        if caller.device.pk != uuid:
            _no_such_device(uuid)
        return caller.device
    device = _with_owner(Device.objects.visible_to(caller)).filter(pk=uuid).first()
    if device is None:
        _no_such_device(uuid)
    _require(request, device, role)
    return device


def own_device(request: Request, uuid: UUID) -> Device:
    """The device itself and nobody else: what it gets here is its own secret."""
    if isinstance(request.user, DevicePrincipal) and request.user.device.pk == uuid:
        return request.user.device
    if not isinstance(request.user, DevicePrincipal):
        device_for(request, uuid)
        raise PermissionDenied("Only the device itself may read its credentials.")
    _no_such_device(uuid)


def command_for(request: Request, uuid: UUID) -> Command:
    commands = Command.objects.none()
    if not isinstance(request.user, DevicePrincipal):
        commands = Command.objects.visible_to(request.user)
    command = commands.filter(uuid=uuid).first()
    if command is None:
        raise NotFound(f"There is no command {uuid}.")
    return command


def person_of(request: Request) -> User:
    if isinstance(request.user, User):
        return request.user
    raise PermissionDenied("A device token does not open this.")


def _require(request: Request, device: Device, role: Role) -> None:
    """The token's role caps the person's."""
    held = role_in(request.user, device.tenant_id)
    token = request.auth
    if held is None or not held.includes(role):
        raise PermissionDenied(f"This needs the role {role} in the device's tenant.")
    if isinstance(token, ApiToken) and not Role(token.role).includes(role):
        raise PermissionDenied(f"This needs an API token with the role {role}.")


def _with_owner(devices: QuerySet[Device]) -> QuerySet[Device]:
    return devices.select_related("tenant", "group__organisation", "connectivity")


def _no_such_device(uuid: UUID) -> NoReturn:
    raise NotFound(f"There is no device {uuid}.")
