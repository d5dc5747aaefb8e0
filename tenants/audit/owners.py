"""Find the tenant that an object belongs to, for what the audit says of an access to it.

This covers every model whose rows belong to a tenant, so a new one needs no line here. It does not
ask who may see them: the audit is written about those who may not.
"""

from collections.abc import Collection
from functools import cache
from typing import Any, NamedTuple
from uuid import UUID

from django.apps import apps
from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.db.models import Model, UUIDField, Value

from tenants.models import TenantOwnedQuerySet


class Owned(NamedTuple):
    """An object, by what it is called ("device"), its primary key or UUID, and its tenant."""

    what: str
    key: str
    tenant: UUID

    @property
    def device(self) -> UUID | None:
        return UUID(self.key) if self.what == "device" else None

    def __str__(self) -> str:
        return f"{self.what} {self.key}"


def owners_of(uuids: Collection[UUID]) -> list[Owned]:
    """Return those of the objects that exist, in the order of `uuids`, with one query."""
    if not uuids:
        return []
    first, *others = [
        model._default_manager.filter(**{f"{field}__in": uuids})
        .order_by()
        .values_list(Value(str(model._meta.verbose_name)), field, path)
        for model, field, path in _named_by_uuid()
    ]
    found = {key: Owned(what, str(key), tenant) for what, key, tenant in first.union(*others)}
    return [found[uuid] for uuid in uuids if uuid in found]


def owner_of(model: type[Model], key: Any) -> Owned | None:
    """Return the object of this primary key, None where there is none or it has no tenant."""
    path = tenant_path(model)
    if path is None:
        return None
    try:
        rows = model._default_manager.filter(pk=key).order_by()
        tenant = rows.values_list(path, flat=True).first()
    except (ValueError, ValidationError, OverflowError):
        return None
    return Owned(str(model._meta.verbose_name), str(key), tenant) if tenant else None


@cache
def tenant_path(model: type[Model]) -> str | None:
    """Return the field that leads from a row to its tenant, None where rows have none."""
    rows = model._default_manager.none()
    if isinstance(rows, TenantOwnedQuerySet):
        return rows.tenant_path
    try:
        return model._meta.get_field("tenant").name
    except FieldDoesNotExist:
        return None


@cache
def _named_by_uuid() -> list[tuple[type[Model], str, str]]:
    return [
        (model, field.name, path)
        for model in apps.get_models()
        if (path := tenant_path(model))
        for field in model._meta.fields
        if isinstance(field, UUIDField) and field.unique
    ]
