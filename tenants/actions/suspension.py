"""A whole tenant is kept out of the broker, and let in again."""

from django.db import transaction
from django.utils import timezone

from tenants.audit.writer import actor_name, record_action
from tenants.broker.accounts import announce_account
from tenants.models import Action, Tenant, User


@transaction.atomic
def suspend_tenant(tenant: Tenant, *, by: User | None, reason: str) -> None:
    """Its connections end, nobody of it gets in, and its devices' tokens open nothing. One that
    is suspended already stays as it is."""
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
    _told(row, Action.TENANT_SUSPENDED, by, {"reason": reason[:300]})


@transaction.atomic
def resume_tenant(tenant: Tenant, *, by: User | None) -> bool:
    """What it held before opens the broker again, but for what was revoked. Whether it was
    suspended."""
    row = Tenant.objects.select_for_update().get(pk=tenant.pk)
    if not row.suspended_at:
        return False
    _set(row, suspended_at=None, suspended_by=None, suspended_by_name="", suspended_reason="")
    _told(row, Action.TENANT_RESUMED, by, {})
    return True


def _set(row: Tenant, **fields: object) -> None:
    for name, value in fields.items():
        setattr(row, name, value)
    row.save(update_fields=list(fields))


def _told(row: Tenant, action: Action, by: User | None, detail: dict[str, str]) -> None:
    announce_account(row)
    record_action(action, tenant=row.pk, by=by, target=row.name, detail=detail)
