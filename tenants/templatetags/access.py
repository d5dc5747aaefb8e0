"""Whether a page offers what only a tenant's members or admins may do."""

from uuid import UUID

from django import template

from tenants.models import Person, Role, Tenant, User, role_in

register = template.Library()


@register.simple_tag
def administers(person: Person, tenant: Tenant) -> bool:
    role = role_in(person, tenant.pk)
    return role is not None and role.includes(Role.ADMIN)


@register.simple_tag
def only_reads(person: Person, tenant: UUID) -> bool:
    """Return whether `person` sees this tenant as a superuser and is no member of it."""
    return isinstance(person, User) and person.is_superuser and tenant not in person.own_tenants


@register.simple_tag
def administered_tenants(person: Person) -> list[Tenant]:
    return list(Tenant.objects.visible_to(person, Role.ADMIN))
