"""What a caller of the API may reach. What another tenant owns does not exist for it: 404."""

from typing import NoReturn
from uuid import UUID

from django.db.models import QuerySet
from rest_framework.exceptions import NotFound, PermissionDenied
from rest_framework.request import Request

from devices.api.authentication import DevicePrincipal
from devices.models import Command, Device
from tenants.models import ApiToken, Credential, Role, Tenant, User, role_in
from tenants.models.owners import TenantQuerySet


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
    require(request, device.tenant_id, role)
    return device


def own_device(request: Request, uuid: UUID) -> Device:
    """The device itself and nobody else: what it gets here is its own secret."""
    if isinstance(request.user, DevicePrincipal) and request.user.device.pk == uuid:
        return request.user.device
    if not isinstance(request.user, DevicePrincipal):
        device_for(request, uuid)
        raise PermissionDenied("Only the device itself may read its credentials.")
    _no_such_device(uuid)


def command_for(request: Request, uuid: UUID, *, role: Role = Role.VIEWER) -> Command:
    commands = Command.objects.none()
    if not isinstance(request.user, DevicePrincipal):
        commands = Command.objects.visible_to(request.user)
    command = (
        commands.filter(uuid=uuid)
        .select_related("device__connectivity", "device__tenant", "repeats", "bulk")
        .first()
    )
    if command is None:
        raise NotFound(f"There is no command {uuid}.")
    require(request, command.device.tenant_id, role)
    return command


def person_of(request: Request) -> User:
    if isinstance(request.user, User):
        return request.user
    raise PermissionDenied("A device token does not open this.")


def tenant_for(request: Request, uuid: UUID) -> Tenant:
    """The tenant, for an admin of it and for staff who manage tenants."""
    person = person_of(request)
    managed = _with_account(Tenant.objects.managed_by(person)).filter(pk=uuid).first()
    if managed is not None:
        _require_token(request, Role.ADMIN)
        return managed
    tenant = _with_account(Tenant.objects.visible_to(person)).filter(pk=uuid).first()
    if tenant is None:
        _no_such_tenant(uuid)
    require(request, uuid, Role.ADMIN)
    return tenant


def tenant_managed_by_staff(request: Request, uuid: UUID) -> Tenant:
    """The tenant, for staff who manage tenants: no role in the tenant itself is enough."""
    tenant = _with_account(Tenant.objects.managed_by(request.user)).filter(pk=uuid).first()
    if tenant is not None:
        _require_token(request, Role.ADMIN)
        return tenant
    if Tenant.objects.visible_to(request.user).filter(pk=uuid).exists():
        raise PermissionDenied("Only staff may do this to a tenant.")
    _no_such_tenant(uuid)


def credential_of(tenant: Tenant, number: int) -> Credential:
    """One of the tenant's own; a device's is its device's affair."""
    owned = tenant.credentials.filter(device_uuid=None).select_related("issued_by")
    credential = owned.filter(pk=number).first()
    if credential is None:
        raise NotFound(f"The tenant has no credential {number}.")
    return credential


def require(request: Request, tenant: UUID, role: Role) -> None:
    """A role of the person's; the token's caps it. Raises PermissionDenied."""
    held = role_in(request.user, tenant)
    if held is None or not held.includes(role):
        raise PermissionDenied(f"This needs the role {role} in the tenant.")
    _require_token(request, role)


def _require_token(request: Request, role: Role) -> None:
    token = request.auth
    if isinstance(token, ApiToken) and not Role(token.role).includes(role):
        raise PermissionDenied(f"This needs an API token with the role {role}.")


def _with_owner(devices: QuerySet[Device]) -> QuerySet[Device]:
    return devices.select_related("tenant", "group__organisation", "connectivity")


def _with_account(tenants: TenantQuerySet) -> TenantQuerySet:
    return tenants.select_related("broker_account")


def _no_such_tenant(uuid: UUID) -> NoReturn:
    raise NotFound(f"There is no tenant {uuid}.")


def _no_such_device(uuid: UUID) -> NoReturn:
    raise NotFound(f"There is no device {uuid}.")
