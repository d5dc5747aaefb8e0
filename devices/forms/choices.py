"""Choices of groups and organisations in forms."""

from typing import Any

from django import forms

from tenants.models import Group, Organisation


class GroupChoice(forms.ModelChoiceField):
    def label_from_instance(self, group: Group) -> str:
        return f"{group.tenant.name} / {group.organisation.name} / {group.name}"


class OrganisationChoice(forms.ModelChoiceField):
    def label_from_instance(self, organisation: Organisation) -> str:
        return f"{organisation.tenant.name} / {organisation.name}"


class SelectOfTenant(forms.Select):
    """Mark each option with its tenant, so that the page shows those of the chosen tenant only."""

    def __init__(self) -> None:
        super().__init__(attrs={"data-narrowed-by": "tenant"})

    def create_option(self, name: str, value: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        option: dict[str, Any] = super().create_option(name, value, *args, **kwargs)
        if instance := getattr(value, "instance", None):
            option["attrs"]["data-tenant"] = str(instance.tenant_id)
        return option
