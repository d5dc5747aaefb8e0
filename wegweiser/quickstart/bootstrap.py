"""The first rows of a new home: someone to log in as, a tenant, and keys to begin with."""

from contextlib import suppress
from pathlib import Path
from uuid import UUID

from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.crypto import get_random_string
from knox.crypto import hash_token

from tenants.actions.keys import create_api_token, create_enrollment_key, find_enrollment_key
from tenants.actions.people import create_person, set_membership
from tenants.actions.tenants import create_group, create_organisation, create_tenant
from tenants.errors import EnrollmentRefused
from tenants.models import ApiToken, Group, Role, Tenant, User
from wegweiser.quickstart.state import Accounts

ADMIN = "admin"
TENANT = "Demo"
ORGANISATION = "Head office"
GROUP = "Computers"
KEY_NAME = "Quickstart"


@transaction.atomic
def bootstrap(home: Path) -> Accounts:
    """What this home started with, with what is missing or no longer valid made anew.

    Written to the home before the transaction commits: no password is ever set and then lost.
    """
    known = Accounts.of_home(home)
    admin, password = _admin(known)
    group = _group(known)
    set_membership(admin, group.tenant, Role.ADMIN)
    accounts = Accounts(
        admin_username=admin.username,
        admin_password=password,
        api_token=_api_token(known, admin),
        tenant_uuid=str(group.tenant.uuid),
        group_uuid=str(group.uuid),
        enrollment_key=_enrollment_key(known, group, admin),
    )
    if accounts != known:
        accounts.save(home)
    return accounts


def _admin(known: Accounts | None) -> tuple[User, str]:
    """The user, and the password unless it has been changed."""
    user = User.objects.filter(username=ADMIN).first()
    if user is None:
        password = get_random_string(16)
        user = User(username=ADMIN, is_staff=True, is_superuser=True)
        user.set_password(password)
        return create_person(user, by=None), password
    if known and known.admin_password and user.check_password(known.admin_password):
        return user, known.admin_password
    return user, ""


def _group(known: Accounts | None) -> Group:
    """The group of last time, whatever it is called by now, or the usual one."""
    if known:
        group = Group.objects.filter(
            uuid=UUID(known.group_uuid), tenant=UUID(known.tenant_uuid)
        ).first()
        if group:
            return group
    tenant = Tenant.objects.filter(name=TENANT).first() or create_tenant(name=TENANT)
    organisation = tenant.organisations.filter(name=ORGANISATION).first() or create_organisation(
        tenant, name=ORGANISATION
    )
    return organisation.groups.filter(name=GROUP).first() or create_group(organisation, name=GROUP)


def _api_token(known: Accounts | None, admin: User) -> str:
    if known:
        valid = ApiToken.objects.filter(
            Q(expiry=None) | Q(expiry__gt=timezone.now()),
            digest=hash_token(known.api_token),
            user=admin,
        )
        if valid.exists():
            return known.api_token
    _, token = create_api_token(admin, name=KEY_NAME, role=Role.ADMIN, expires_at=None)
    return token


def _enrollment_key(known: Accounts | None, group: Group, admin: User) -> str:
    if known:
        with suppress(EnrollmentRefused):
            if not find_enrollment_key(known.enrollment_key, group.uuid).refusal:
                return known.enrollment_key
    _, key = create_enrollment_key(group, name=KEY_NAME, max_uses=None, created_by=admin)
    return key
