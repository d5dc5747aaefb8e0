"""Create, rename and delete tenants, organisations and groups."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import IntegrityError, transaction
from psycopg.errors import UniqueViolation

from tenants.audit.writer import record_action
from tenants.broker.accounts import ensure_broker_account
from tenants.errors import NameTaken, StillInUse
from tenants.models import Action, Group, Organisation, Tenant, User


@transaction.atomic
def create_tenant(*, name: str, by: User | None = None) -> Tenant:
    """Create a tenant with its broker account, which a running subscriber then provisions.

    Raises NameTaken.
    """
    with _unique(name):
        tenant = Tenant.objects.create(name=name)
    ensure_broker_account(tenant)
    _record(Action.TENANT_CREATED, tenant, by)
    return tenant


@transaction.atomic
def create_organisation(tenant: Tenant, *, name: str, by: User | None = None) -> Organisation:
    """Create an organisation of the tenant. Raises NameTaken."""
    with _unique(name):
        organisation = Organisation.objects.create(tenant=tenant, name=name)
    _record(Action.PLACE_CREATED, organisation, by)
    return organisation


@transaction.atomic
def create_group(organisation: Organisation, *, name: str, by: User | None = None) -> Group:
    """Create a group of the organisation. Raises NameTaken."""
    with _unique(name):
        group = Group.objects.create(organisation=organisation, name=name)
    _record(Action.PLACE_CREATED, group, by)
    return group


@transaction.atomic
def rename(owner: Tenant | Organisation | Group, *, name: str, by: User | None = None) -> None:
    """Give the row another name. Raises NameTaken."""
    known = type(owner).objects.select_for_update().get(pk=owner.pk)
    owner.name = name
    if known.name == name:
        return
    with _unique(name):
        owner.save(update_fields=["name"])
    changed = Action.TENANT_CHANGED if isinstance(owner, Tenant) else Action.PLACE_RENAMED
    _record(changed, known, by, name={"from": known.name, "to": name})


@transaction.atomic
def delete_place(place: Organisation | Group, *, by: User | None = None) -> None:
    """Delete the place. Raises StillInUse while it has devices, which would go with it."""
    groups = list(place.groups.all()) if isinstance(place, Organisation) else [place]
    if any(group.devices.exists() for group in groups):
        raise StillInUse(f"{place} still has devices. Move or delete them first.")
    keys = sum(group.enrollment_keys.count() for group in groups)
    _record(Action.PLACE_DELETED, place, by, groups=len(groups), enrolment_keys=keys)
    place.delete()


@contextmanager
def _unique(name: str) -> Iterator[None]:
    try:
        with transaction.atomic():
            yield
    except IntegrityError as error:
        if not isinstance(error.__cause__, UniqueViolation):
            raise
        raise NameTaken(f'The name "{name}" is taken; choose another.') from error


def _record(
    action: Action, owner: Tenant | Organisation | Group, by: User | None, **detail: object
) -> None:
    tenant = owner.pk if isinstance(owner, Tenant) else owner.tenant_id
    if not isinstance(owner, Tenant):
        detail["uuid"] = str(owner.pk)
    record_action(action, tenant=tenant, by=by, target=_described(owner), detail=detail)


def _described(owner: Tenant | Organisation | Group) -> str:
    match owner:
        case Tenant():
            return f"tenant {owner.name}"
        case Organisation():
            return f"organisation {owner.name}"
    return f"group {owner.organisation.name} / {owner.name}"
