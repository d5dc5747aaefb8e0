"""Who logs in, and what they may do where."""

import uuid
from typing import ClassVar, Self, TypeVar

from django.contrib.auth.models import AbstractUser, AnonymousUser
from django.db import models


class User(AbstractUser):  # type: ignore[django-manager-missing]  # knox has no types
    """A person who logs in; what they may do in a tenant is their Membership."""


class Role(models.TextChoices):
    """What a member may do; each role may also do what the ones before it may."""

    VIEWER = "viewer", "Viewer"
    OPERATOR = "operator", "Operator"
    ADMIN = "admin", "Admin"

    @property
    def rank(self) -> int:
        return list(Role).index(self)

    def includes(self, needed: "Role") -> bool:
        return self.rank >= needed.rank

    @classmethod
    def at_least(cls, needed: "Role") -> list["Role"]:
        return [role for role in cls if role.includes(needed)]


Person = User | AnonymousUser


Row = TypeVar("Row", bound=models.Model)


class TenantOwnedQuerySet(models.QuerySet[Row]):
    """Rows of one tenant each. Views and the API reach them only through `visible_to`."""

    tenant_path: ClassVar[str] = "tenant"

    def visible_to(self, person: Person, role: Role = Role.VIEWER) -> Self:
        """The rows of the tenants in which `person` has at least `role`."""
        if not isinstance(person, User):
            return self.none()
        # Asked of the database, since a websocket's `person` may be hours old.
        allowed = Membership.objects.filter(
            user=person, user__is_active=True, role__in=Role.at_least(role)
        )
        return self.filter(**{f"{self.tenant_path}__in": allowed.values("tenant")})


class Membership(models.Model):
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    tenant = models.ForeignKey(
        "tenants.Tenant", on_delete=models.CASCADE, related_name="memberships"
    )
    role = models.CharField(max_length=10, choices=Role.choices, default=Role.VIEWER)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "tenant"], name="one_membership_in_tenant")
        ]

    def __str__(self) -> str:
        return f"{self.user} in {self.tenant}: {self.role}"


def role_in(person: Person, tenant_id: uuid.UUID) -> Role | None:
    if not isinstance(person, User):
        return None
    membership = Membership.objects.filter(user=person, tenant=tenant_id).first()
    return Role(membership.role) if membership else None
