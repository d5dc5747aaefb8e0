"""Tenants, organisations and groups."""

from django.db import transaction

from tenants.actions.accounts import ensure_broker_account
from tenants.errors import StillInUse
from tenants.models import Group, Organisation, Tenant


@transaction.atomic
def create_tenant(*, name: str) -> Tenant:
    """A tenant with its broker account; a running subscriber provisions it at the broker."""
    tenant = Tenant.objects.create(name=name)
    ensure_broker_account(tenant)
    return tenant


@transaction.atomic
def create_organisation(tenant: Tenant, *, name: str) -> Organisation:
    return Organisation.objects.create(tenant=tenant, name=name)


@transaction.atomic
def create_group(organisation: Organisation, *, name: str) -> Group:
    return Group.objects.create(organisation=organisation, name=name)


@transaction.atomic
def rename(owner: Tenant | Organisation | Group, *, name: str) -> None:
    owner.name = name
    owner.save(update_fields=["name"])


@transaction.atomic
def delete_unused(place: Organisation | Group) -> None:
    """Raises StillInUse while devices are in it: they would go with it."""
    groups = place.groups.all() if isinstance(place, Organisation) else [place]
    if any(group.devices.exists() for group in groups):
        raise StillInUse(f"{place} still has devices; move or delete them first.")
    place.delete()
