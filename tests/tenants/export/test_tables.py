"""Whatever belongs to a tenant is exported, or there is a reason; and no secret ever is."""

from collections.abc import Iterator

import pytest
from django.apps import apps
from django.db.models import Field, ForeignKey, Model

from tenants.export.tables import tables
from tenants.models import Tenant

# Models that reach a tenant and are not exported.
EXCEPTIONS = {
    "tenants.brokerkey": "signing keys, which never leave the installation",
    "tenants.tenantexport": "the exports themselves",
    "tenants.exportchunk": "the exports themselves",
    "natsbridge.deadletter": "for staff: it may claim to be of another tenant",
}
# Parts of the names of fields that hold what opens something.
SECRET = ("digest", "secret", "seed", "password", "token", "encrypted", "hint")
# Fields with such a name that open nothing.
HARMLESS = {"devices.device.token_used_at": "a moment"}
TENANT_FIELDS = {"tenant", "tenant_uuid", "tenant_id"}


def relations(model: type[Model]) -> Iterator[type[Model]]:
    for field in model._meta.concrete_fields:
        if isinstance(field, ForeignKey):
            yield field.related_model


def reaches_tenant(model: type[Model], seen: frozenset[type[Model]] = frozenset()) -> bool:
    if model is Tenant or TENANT_FIELDS & {field.name for field in model._meta.concrete_fields}:
        return True
    return any(
        reaches_tenant(related, seen | {model})
        for related in relations(model)
        if related not in seen | {model}
    )


def of_tenants() -> set[str]:
    own = ("tenants", "devices", "natsbridge")
    models = [
        model
        for model in apps.get_models(include_auto_created=True)
        if model._meta.app_label in own
    ]
    return {model._meta.label_lower for model in models if reaches_tenant(model)}


def fields() -> Iterator[tuple[str, Field]]:
    for table in tables():
        for field in table.fields:
            yield f"{table.label}.{field.name}", field


def test_every_model_of_a_tenant_is_exported_or_there_is_a_reason() -> None:
    exported = {table.label for table in tables()}
    assert {"devices.command", "tenants.auditentry"} <= exported
    assert of_tenants() - exported == set(EXCEPTIONS)
    assert not exported & set(EXCEPTIONS)


def test_no_field_whose_name_says_that_it_opens_something_is_exported() -> None:
    found = {name for name, field in fields() if any(word in field.name for word in SECRET)}
    assert found == set(HARMLESS)


def test_what_is_withheld_exists() -> None:
    for table in tables():
        names = {field.name for field in table.model._meta.concrete_fields}
        assert set(table.withheld) <= names, table.label


@pytest.mark.parametrize("label", ["devices.device", "devices.command", "tenants.membership"])
def test_models_of_tenants_are_recognised(label: str) -> None:
    assert label in of_tenants()
    assert "tenants.user" not in of_tenants()
