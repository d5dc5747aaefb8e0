"""People and what they may do where."""

from django.db import transaction

from tenants.models import Membership, Role, Tenant, User


@transaction.atomic
def set_membership(user: User, tenant: Tenant, role: Role) -> Membership:
    membership, _ = Membership.objects.update_or_create(
        user=user, tenant=tenant, defaults={"role": role}
    )
    return membership


def remove_membership(membership: Membership) -> None:
    membership.delete()
