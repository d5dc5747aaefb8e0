"""Permission classes: which callers an endpoint answers, and the role that each action needs.

A view names its roles by action (a viewset) or by method (another view):
`roles = {"create": Role.OPERATOR}`. What it does not name needs viewer to read and admin to write.
"""

from typing import Any
from uuid import UUID

from django.db.models import Model, QuerySet
from rest_framework.exceptions import PermissionDenied
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from tenants.models import ApiToken, Role, Tenant, User, has_role, tenant_of


class IsPerson(BasePermission):
    """Answer people only, and only with an API token of the role that the action needs."""

    message = "A device token does not give access to this."

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not isinstance(request.user, User):
            return False
        require_token(request, needed_role(request, view))
        return True


class HasTenantRole(IsPerson):
    """Answer people who have the role that the action needs in the row's tenant.

    What a body names is checked by its `VisibleField`, since there is no row yet.
    """

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not super().has_permission(request, view):
            return False
        role = needed_role(request, view)
        if manages(request, view):
            return True
        if role is not Role.VIEWER and not getattr(view, "detail", False):
            self.message = f"This needs the role {role} in a tenant."
            return Tenant.objects.visible_to(request.user, role).exists()
        return True

    def has_object_permission(self, request: Request, view: APIView, obj: Model) -> bool:
        if not manages(request, view):
            require(request, tenant_of(obj), needed_role(request, view))
        return True


class IsStaff(IsPerson):
    """Answer staff who manage the platform."""

    message = "This is for staff who manage the platform."

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not isinstance(request.user, User) or not request.user.manages_platform:
            return False
        return super().has_permission(request, view)


class MayInAdmin(IsStaff):
    """Answer staff who may view such rows in the admin, and who may change them there to write."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        if not super().has_permission(request, view):
            return False
        verbs = ("view", "change") if request.method in SAFE_METHODS else ("change",)
        self.message = f"This needs the permission to {verbs[0]} such rows in the admin."
        model = view.queryset.model._meta  # type: ignore[attr-defined]
        return any(
            request.user.has_perm(f"{model.app_label}.{verb}_{model.model_name}") for verb in verbs
        )


def needed_role(request: Request, view: APIView) -> Role:
    """Return the role that this request needs."""
    roles: dict[str, Role] = getattr(view, "roles", {})
    action = getattr(view, "action", None) or str(request.method).lower()
    return roles.get(action, Role.VIEWER if request.method in SAFE_METHODS else Role.ADMIN)


def manages(request: Request, view: Any) -> bool:
    """Return whether the caller is staff in a view that is `managed`: for them too, everywhere."""
    staff = isinstance(request.user, User) and request.user.manages_platform
    return staff and getattr(view, "managed", False)


def reachable(model: Any, request: Any, view: Any, role: Role = Role.VIEWER) -> QuerySet[Any]:
    """Return the rows that the caller may see, or in whose tenant they have the role."""
    rows: QuerySet[Any] = model.objects.visible_to(request.user, role)
    if manages(request, view) and hasattr(rows, "managed_by"):
        rows = model.objects.managed_by(request.user)
    return rows


def person_of(request: Request) -> User:
    """Return the person who calls. Raises PermissionDenied for a device."""
    if isinstance(request.user, User):
        return request.user
    raise PermissionDenied(IsPerson.message)


def require(request: Request, tenant: UUID, role: Role) -> None:
    """Raise PermissionDenied unless the person and the API token have the role in the tenant."""
    if not has_role(request.user, tenant, role):
        raise PermissionDenied(f"This needs the role {role} in the tenant.")
    require_token(request, role)


def require_token(request: Request, role: Role) -> None:
    """Raise PermissionDenied if the request's API token has a lower role."""
    token = request.auth
    if isinstance(token, ApiToken) and not Role(token.role).includes(role):
        raise PermissionDenied(f"This needs an API token with the role {role}.")
