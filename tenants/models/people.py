"""People who log in, and their roles in tenants."""

import uuid
from typing import Any, ClassVar, Self, TypeVar

from django.contrib.auth.models import AbstractUser, AnonymousUser, UserManager
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Exists, Q
from django.utils.functional import cached_property

from tenants.names import validate_name


class PersonQuerySet(models.QuerySet["User"]):
    def visible_to(self, person: "Person", role: "Role | None" = None) -> Self:
        """Return the members of the tenants that `person` administers, and `person`.

        Staff who manage the platform see everybody.
        """
        if not isinstance(person, User):
            return self.none()
        if person.manages_platform:
            return self
        administered = Membership.objects.visible_to(person, Role.ADMIN)
        return self.filter(Q(pk=person.pk) | Q(pk__in=administered.values("user")))


class User(AbstractUser):  # type: ignore[django-manager-missing]  # knox has no types
    """A person who logs in. Their rights in a tenant come from a Membership."""

    # The first is the default of Django and its admin.
    objects: ClassVar[UserManager[Self]] = UserManager()
    people = PersonQuerySet.as_manager()

    @cached_property
    def own_tenants(self) -> frozenset[uuid.UUID]:
        """The tenants of which the person is a member, queried once for a whole page."""
        return frozenset(Membership.objects.filter(user=self).values_list("tenant", flat=True))

    @property
    def manages_platform(self) -> bool:
        """Whether these are staff who may change tenants in the admin, so the platform too."""
        return self.is_active and self.is_staff and self.has_perm("tenants.change_tenant")

    def clean(self) -> None:
        """Validate the first and last name too: Django's own validator covers the username only."""
        super().clean()
        wrong = {}
        for field in ("first_name", "last_name"):
            try:
                validate_name(getattr(self, field))
            except ValidationError as error:
                wrong[field] = error
        if wrong:
            raise ValidationError(wrong)


class Role(models.TextChoices):
    """What a member may do. Each role includes those before it."""

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
    """Rows that belong to one tenant each. Views and the API read them only by `visible_to`."""

    tenant_path: ClassVar[str] = "tenant"

    def visible_to(
        self, person: Person, role: Role = Role.VIEWER, *, reading: bool | None = None
    ) -> Self:
        """Return the rows of the tenants in which `person` has at least `role`.

        Superusers read the rows of every tenant. `reading` says whether the rows are only shown;
        without it, a viewer's are, and those of a higher role are acted on.
        """
        if not isinstance(person, User):
            return self.none()
        # From the database, since the `person` of a websocket may be hours old.
        allowed = Membership.objects.filter(
            user=person, user__is_active=True, role__in=Role.at_least(role)
        )
        visible = Q(**{f"{self.tenant_path}__in": allowed.values("tenant")})
        if reading is None:
            reading = role == Role.VIEWER
        # Others get the plain query, which an index answers.
        if reading and person.is_superuser:
            everything = User.objects.filter(pk=person.pk, is_active=True, is_superuser=True)
            visible |= Q(Exists(everything))
        return self.filter(visible)


class MembershipQuerySet(TenantOwnedQuerySet["Membership"]):
    def managed_by(self, person: Person) -> Self:
        """Return all memberships for staff who manage the platform, and none for others."""
        return self if isinstance(person, User) and person.manages_platform else self.none()


class Membership(models.Model):
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    tenant = models.ForeignKey(
        "tenants.Tenant", on_delete=models.CASCADE, related_name="memberships"
    )
    role = models.CharField(max_length=10, choices=Role.choices, default=Role.VIEWER)

    objects = MembershipQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "tenant"], name="one_membership_in_tenant")
        ]

    def __str__(self) -> str:
        return f"{self.user} in {self.tenant}: {self.role}"


def tenant_of(row: models.Model) -> uuid.UUID:
    """Return the tenant of a row that a TenantOwnedQuerySet found."""
    rows: TenantOwnedQuerySet[models.Model] = type(row).objects.none()  # type: ignore[attr-defined]
    *relations, column = rows.tenant_path.split("__")
    value: Any = row
    for name in relations:
        value = getattr(value, name)
    tenant: uuid.UUID = getattr(value, "tenant_id" if column == "tenant" else column)
    return tenant


def has_role(person: Person, tenant: uuid.UUID, role: Role) -> bool:
    """Return whether `person` has at least `role` in the tenant.

    A superuser who is not a member is a viewer of every tenant, and no more.
    """
    if not isinstance(person, User):
        return False
    held = Membership.objects.filter(user=person, tenant=tenant).first()
    if held is None:
        return person.is_superuser and role == Role.VIEWER
    return Role(held.role).includes(role)
