"""Return the tenants that a caller may reach; to others the answer is 404."""

from typing import NoReturn
from uuid import UUID

from rest_framework.exceptions import NotFound, PermissionDenied
from rest_framework.request import Request

from tenants.api.base.permissions import person_of, require, require_token
from tenants.models import Credential, Role, Tenant, User
from tenants.models.owners import TenantQuerySet


def tenant_for(request: Request, uuid: UUID) -> Tenant:
    """Return the tenant, for its admins and for staff who manage tenants."""
    person = person_of(request)
    managed = _with_account(Tenant.objects.managed_by(person)).filter(pk=uuid).first()
    if managed is not None:
        require_token(request, Role.ADMIN)
        return managed
    tenant = _with_account(Tenant.objects.visible_to(person)).filter(pk=uuid).first()
    if tenant is None:
        _no_such_tenant(uuid)
    require(request, uuid, Role.ADMIN)
    return tenant


def visible_tenant(request: Request, uuid: UUID) -> Tenant:
    """Return the tenant, for those who may look at it."""
    tenant = Tenant.objects.visible_to(person_of(request)).filter(pk=uuid).first()
    if tenant is None:
        _no_such_tenant(uuid)
    require(request, uuid, Role.VIEWER)
    return tenant


def tenant_managed_by_staff(request: Request, uuid: UUID) -> Tenant:
    """Return the tenant, for staff who manage tenants; a role in the tenant is not enough."""
    tenant = _with_account(Tenant.objects.managed_by(request.user)).filter(pk=uuid).first()
    if tenant is not None:
        require_token(request, Role.ADMIN)
        return tenant
    if Tenant.objects.visible_to(request.user).filter(pk=uuid).exists():
        raise PermissionDenied("Only staff may do this to a tenant.")
    _no_such_tenant(uuid)


def staff_of(request: Request, *, role: Role = Role.VIEWER) -> User:
    """Return the caller if they are staff who manage the platform, with a token of that role."""
    person = person_of(request)
    if not person.manages_platform:
        raise PermissionDenied("This is for staff who manage the platform.")
    require_token(request, role)
    return person


def credential_of(tenant: Tenant, number: int) -> Credential:
    """Return one of the tenant's own credentials, not one of its devices."""
    owned = tenant.credentials.filter(device_uuid=None).select_related("issued_by")
    credential = owned.filter(pk=number).first()
    if credential is None:
        raise NotFound(f"The tenant has no credential {number}.")
    return credential


def _with_account(tenants: TenantQuerySet) -> TenantQuerySet:
    return tenants.select_related("broker_account")


def _no_such_tenant(uuid: UUID) -> NoReturn:
    raise NotFound(f"There is no tenant {uuid}.")
