"""Suspend and resume a tenant."""

from django.db import transaction
from django.utils import timezone

from tenants.audit.writer import actor_name, record_action
from tenants.broker.accounts import announce_account
from tenants.models import Action, Tenant, User


@transaction.atomic
def suspend_tenant(tenant: Tenant, *, by: User | None, reason: str) -> None:
    """End the tenant's connections and refuse its logins and its devices' tokens from now on.

    A tenant that is already suspended keeps its date and reason.
    """
    row = Tenant.objects.select_for_update().get(pk=tenant.pk)
    if row.suspended_at:
        return
    _set(
        row,
        suspended_at=timezone.now(),
        suspended_by=by,
        suspended_by_name=actor_name(by),
        suspended_reason=reason[:300],
    )
    _announce(row, Action.TENANT_SUSPENDED, by, {"reason": reason[:300]})


@transaction.atomic
def resume_tenant(tenant: Tenant, *, by: User | None) -> bool:
    """Make the tenant's credentials valid again, except for revoked ones.

    Return whether the tenant was suspended.
    """
    row = Tenant.objects.select_for_update().get(pk=tenant.pk)
    if not row.suspended_at:
        return False
    _set(row, suspended_at=None, suspended_by=None, suspended_by_name="", suspended_reason="")
    _announce(row, Action.TENANT_RESUMED, by, {})
    return True


def _set(row: Tenant, **fields: object) -> None:
    for name, value in fields.items():
        setattr(row, name, value)
    row.save(update_fields=list(fields))


def _announce(row: Tenant, action: Action, by: User | None, detail: dict[str, str]) -> None:
    announce_account(row)
    record_action(action, tenant=row.pk, by=by, target=row.name, detail=detail)
