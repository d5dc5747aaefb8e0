"""Create, change and delete people, and set their roles in tenants."""

from collections.abc import Collection
from typing import Any

from django.contrib.auth.models import Group as StaffRole
from django.db import transaction

from tenants.actions import powers
from tenants.actions.web_sessions import remove_sessions
from tenants.audit.writer import record_action
from tenants.errors import AlreadyMember, LastAdmin
from tenants.models import Action, Membership, Role, Tenant, User

_POWERS = ("is_staff", "is_superuser")
# The fields whose values the audit shows. Of a password it tells only that it changed.
_SHOWN = ("username", "email", "first_name", "last_name", "is_active", *_POWERS)


@transaction.atomic
def create_person(person: User, *, by: User | None) -> User:
    """Save a new person, whose password is set already. Raises PowerMissing."""
    given = [name for name in _POWERS if getattr(person, name)]
    if given:
        powers.require_superuser(by)
    person.save(force_insert=True)
    _record(Action.PERSON_CREATED, person, by, {"powers": given} if given else {})
    return person


@transaction.atomic
def change_person(
    person: User,
    *,
    by: User | None,
    staff_roles: Collection[StaffRole] | None = None,
    keep_session: str = "",
) -> None:
    """Save the changed row, and give it these staff roles.

    A new password or a deactivation ends the person's sessions, except for `keep_session`.
    Raises PowerMissing.
    """
    known = User.objects.select_for_update().get(pk=person.pk)
    powers.require_cover(by, known)
    if any(getattr(known, name) != getattr(person, name) for name in _POWERS):
        powers.require_superuser(by)
    detail: dict[str, Any] = {
        name: {"from": getattr(known, name), "to": getattr(person, name)}
        for name in _SHOWN
        if getattr(known, name) != getattr(person, name)
    }
    if known.password != person.password:
        detail["password"] = "changed" if person.has_usable_password() else "removed"
    person.save()
    if known.password != person.password or not person.is_active:
        ended = remove_sessions(person, keep=keep_session)
        if ended:
            detail["sessions_ended"] = ended
    if staff_roles is not None:
        before = sorted(known.groups.values_list("name", flat=True))
        after = sorted(role.name for role in staff_roles)
        if before != after:
            powers.require_superuser(by)
            person.groups.set(staff_roles)
            detail["staff_roles"] = {"from": before, "to": after}
    if detail:
        _record(Action.PERSON_CHANGED, person, by, detail)


@transaction.atomic
def delete_person(person: User, *, by: User | None) -> None:
    """Delete the person with their memberships. Raises PowerMissing."""
    powers.require_cover(by, person)
    for membership in person.memberships.select_related("user", "tenant"):
        remove_membership(membership, by=by)
    _record(Action.PERSON_DELETED, person, by)
    person.delete()


@transaction.atomic
def add_member(user: User, tenant: Tenant, role: Role, *, by: User) -> Membership:
    """Make the person a member. Raises AlreadyMember, PowerMissing."""
    # Two who add the same person at once wait for each other.
    Tenant.objects.select_for_update().get(pk=tenant.pk)
    if Membership.objects.filter(user=user, tenant=tenant).exists():
        raise AlreadyMember(f"{user.get_username()} is a member of {tenant} already.")
    return set_membership(user, tenant, role, by=by)


@transaction.atomic
def set_membership(user: User, tenant: Tenant, role: Role, *, by: User | None = None) -> Membership:
    """Make the person a member, or change a member's role. Raises LastAdmin, PowerMissing."""
    known = Membership.objects.select_for_update().filter(user=user, tenant=tenant).first()
    if known and known.role == role:
        return known
    if known:
        _keep_an_admin(known, by)
    powers.require_assignment(by, tenant.pk, role, *([Role(known.role)] if known else ()))
    membership, _ = Membership.objects.update_or_create(
        user=user, tenant=tenant, defaults={"role": role}
    )
    record_action(
        Action.MEMBERSHIP_SET,
        tenant=tenant.pk,
        by=by,
        target=_named(user),
        detail={"role": {"from": known.role if known else None, "to": role.value}},
    )
    return membership


@transaction.atomic
def remove_membership(membership: Membership, *, by: User | None = None) -> None:
    """End the membership. Raises LastAdmin, PowerMissing."""
    _keep_an_admin(membership, by)
    powers.require_assignment(by, membership.tenant_id, Role(membership.role))
    record_action(
        Action.MEMBERSHIP_REMOVED,
        tenant=membership.tenant_id,
        by=by,
        target=_named(membership.user),
        detail={"role": membership.role},
    )
    membership.delete()


def _keep_an_admin(leaving: Membership, by: User | None) -> None:
    """Raise LastAdmin if the tenant would have no other admin; the platform can appoint one."""
    if leaving.role != Role.ADMIN or by is None or by.manages_platform:
        return
    # Locked, so that two admins cannot remove each other at once.
    admins = Membership.objects.select_for_update().filter(
        tenant=leaving.tenant_id, role=Role.ADMIN, user__is_active=True
    )
    if not set(admins.order_by("pk").values_list("pk", flat=True)) - {leaving.pk}:
        raise LastAdmin(f"{leaving.user} is the only admin of {leaving.tenant}.")


def _record(
    action: Action, person: User, by: User | None, detail: dict[str, Any] | None = None
) -> None:
    record_action(action, tenant=None, by=by, target=_named(person), detail=detail)


def _named(person: User) -> str:
    return f"person {person.get_username()}"
