"""What a person may do to another's account: nobody gives or takes a right they lack."""

from uuid import UUID

from django.contrib.auth.models import Permission
from django.db.models import Q

from tenants.errors import PowerMissing
from tenants.models import Membership, Role, User, has_role


def covers(by: User, person: User) -> bool:
    """Return whether `by` may do all that `person` may do, or could do when active again.

    Setting a password or creating a token gives its author the owner's rights; deactivating the
    account takes them away.
    """
    if by.is_superuser or by.pk == person.pk:
        return True
    if person.is_superuser or (person.is_staff and not by.is_staff):
        return False
    if not _permissions(person) <= _permissions(by):
        return False
    own = _roles(by)
    return all(
        tenant in own and own[tenant].includes(role) for tenant, role in _roles(person).items()
    )


def assigns(by: User, tenant: UUID, role: Role) -> bool:
    """Return whether `by` may give this role in the tenant, or take it away."""
    return by.is_superuser or has_role(by, tenant, role)


def highest_role(person: User) -> Role:
    """Return the highest role that a token of this person could use."""
    if person.is_superuser or (person.is_staff and person.has_perm("tenants.change_tenant")):
        return Role.ADMIN
    return max(_roles(person).values(), key=lambda role: role.rank, default=Role.VIEWER)


def require_cover(by: User | None, person: User) -> None:
    """Raise PowerMissing if `person` may do what `by` may not; `by=None` is the platform."""
    if by is not None and not covers(by, person):
        raise PowerMissing(f"{person.get_username()} may do more than you may; ask a superuser.")


def require_assignment(by: User | None, tenant: UUID, *roles: Role) -> None:
    """Raise PowerMissing if `by` may not give or take one of these roles."""
    if by is not None and not all(assigns(by, tenant, role) for role in roles):
        raise PowerMissing("You cannot give or take a role that you do not have in this tenant.")


def require_superuser(by: User | None) -> None:
    """Raise PowerMissing if `by` may not change staff status, superuser status or staff roles."""
    if by is not None and not by.is_superuser:
        raise PowerMissing("Only a superuser may make somebody staff, or change what staff may do.")


def _permissions(person: User) -> set[int]:
    """Return the permissions of a deactivated person too, for whom Django returns none."""
    held = Permission.objects.filter(Q(user=person) | Q(group__user=person))
    return set(held.values_list("pk", flat=True))


def _roles(person: User) -> dict[UUID, Role]:
    memberships = Membership.objects.filter(user=person).values_list("tenant", "role")
    return {tenant: Role(role) for tenant, role in memberships}
