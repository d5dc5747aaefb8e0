"""People and what they may do where."""

from collections.abc import Collection
from typing import Any

from django.contrib.auth.models import Group as StaffRole
from django.db import transaction

from tenants.actions import audit
from tenants.models import Action, Membership, Role, Tenant, User

# Of a person: what stands in the audit with its value. Of the password, only that it changed.
_SHOWN = ("username", "email", "first_name", "last_name", "is_active", "is_staff", "is_superuser")


@transaction.atomic
def create_person(person: User, *, by: User | None) -> User:
    """Saves a new one, whose password has been set."""
    person.save(force_insert=True)
    powers = [name for name in ("is_staff", "is_superuser") if getattr(person, name)]
    _record(Action.PERSON_CREATED, person, by, {"powers": powers} if powers else {})
    return person


@transaction.atomic
def change_person(
    person: User, *, by: User | None, staff_roles: Collection[StaffRole] | None = None
) -> None:
    """Saves what was changed on the row, and puts it into these staff roles."""
    known = User.objects.select_for_update().get(pk=person.pk)
    detail: dict[str, Any] = {
        name: {"from": getattr(known, name), "to": getattr(person, name)}
        for name in _SHOWN
        if getattr(known, name) != getattr(person, name)
    }
    if known.password != person.password:
        detail["password"] = "changed" if person.has_usable_password() else "removed"
    person.save()
    if staff_roles is not None:
        before = sorted(known.groups.values_list("name", flat=True))
        after = sorted(role.name for role in staff_roles)
        if before != after:
            person.groups.set(staff_roles)
            detail["staff_roles"] = {"from": before, "to": after}
    if detail:
        _record(Action.PERSON_CHANGED, person, by, detail)


@transaction.atomic
def delete_person(person: User, *, by: User | None) -> None:
    for membership in person.memberships.select_related("user", "tenant"):
        remove_membership(membership, by=by)
    _record(Action.PERSON_DELETED, person, by)
    person.delete()


@transaction.atomic
def set_membership(user: User, tenant: Tenant, role: Role, *, by: User | None = None) -> Membership:
    known = Membership.objects.select_for_update().filter(user=user, tenant=tenant).first()
    if known and known.role == role:
        return known
    membership, _ = Membership.objects.update_or_create(
        user=user, tenant=tenant, defaults={"role": role}
    )
    audit.record(
        Action.MEMBERSHIP_SET,
        tenant=tenant.pk,
        by=by,
        target=_named(user),
        detail={"role": {"from": known.role if known else None, "to": role.value}},
    )
    return membership


@transaction.atomic
def remove_membership(membership: Membership, *, by: User | None = None) -> None:
    audit.record(
        Action.MEMBERSHIP_REMOVED,
        tenant=membership.tenant_id,
        by=by,
        target=_named(membership.user),
        detail={"role": membership.role},
    )
    membership.delete()


def _record(
    action: Action, person: User, by: User | None, detail: dict[str, Any] | None = None
) -> None:
    audit.record(action, tenant=None, by=by, target=_named(person), detail=detail)


def _named(person: User) -> str:
    return f"person {person.get_username()}"
