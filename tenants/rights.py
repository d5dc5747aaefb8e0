"""Look up the rights of many logged-in people at once, in three queries."""

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from django.contrib.sessions.models import Session
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from tenants.models import Membership, User


@dataclass(frozen=True)
class Login:
    """A session of a browser. Its `proof` changes with the password."""

    session_key: str
    person: int
    proof: str


@dataclass(frozen=True)
class Rights:
    """The facts from which a person's rights follow."""

    is_staff: bool
    is_superuser: bool
    roles: frozenset[tuple[UUID, str]]


def rights_of(logins: Collection[Login]) -> dict[Login, Rights]:
    """Return the rights of each login that is still valid.

    One ends when its person logs out, gets a new password or is deactivated, and when it expires.
    """
    keys = {login.session_key for login in logins}
    alive = Session.objects.filter(session_key__in=keys, expire_date__gt=timezone.now())
    open_keys = set(alive.values_list("session_key", flat=True))
    people = {user.pk: user for user in _people({login.person for login in logins})}
    roles: dict[int, set[tuple[UUID, str]]] = {pk: set() for pk in people}
    memberships = Membership.objects.filter(user__in=people)
    for person, tenant, role in memberships.values_list("user_id", "tenant_id", "role"):
        roles[person].add((tenant, role))
    return {
        login: Rights(user.is_staff, user.is_superuser, frozenset(roles[user.pk]))
        for login in logins
        if login.session_key in open_keys
        and (user := people.get(login.person)) is not None
        and constant_time_compare(login.proof, user.get_session_auth_hash())
    }


def _people(wanted: Collection[int]) -> Collection[User]:
    shown = User.objects.filter(pk__in=wanted, is_active=True)
    return shown.only("password", "is_staff", "is_superuser")
