"""What a page shows only to members or admins of a tenant."""

from uuid import UUID

from django import template

from tenants.models import Person, Role, Tenant, User
from tenants.models import has_role as person_has_role

register = template.Library()


@register.simple_tag
def has_role(person: Person, tenant: Tenant, role: str) -> bool:
    return person_has_role(person, tenant.pk, Role(role))


@register.simple_tag
def only_reads(person: Person, tenant: UUID) -> bool:
    """Return whether `person` sees this tenant only as a superuser, without being a member."""
    return isinstance(person, User) and person.is_superuser and tenant not in person.own_tenants


@register.simple_tag
def administered_tenants(person: Person) -> list[Tenant]:
    return list(Tenant.objects.visible_to(person, Role.ADMIN))
