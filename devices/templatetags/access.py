"""Whether a page offers what only a tenant's admins may do."""

from django import template

from tenants.models import Person, Role, Tenant, role_in

register = template.Library()


@register.simple_tag
def administers(person: Person, tenant: Tenant) -> bool:
    role = role_in(person, tenant.pk)
    return role is not None and role.includes(Role.ADMIN)


@register.simple_tag
def administered_tenants(person: Person) -> list[Tenant]:
    return list(Tenant.objects.visible_to(person, Role.ADMIN))
