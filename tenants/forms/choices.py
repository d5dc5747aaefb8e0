"""Choices of groups and organisations in forms."""

from typing import Any

from django import forms

from tenants.models import Group, Organisation


def path_of(place: Group | Organisation) -> str:
    """Return its name after those of what it belongs to."""
    names = [place.tenant.name, place.name]
    if isinstance(place, Group):
        names.insert(1, place.organisation.name)
    return " / ".join(names)


class PlaceChoice(forms.ModelChoiceField):
    """Choose a group or an organisation by its whole path."""

    def label_from_instance(self, place: Any) -> str:
        return path_of(place)


class SelectOfTenant(forms.Select):
    """Mark each option with its tenant, so that the page shows those of the chosen tenant only."""

    def __init__(self) -> None:
        super().__init__(attrs={"data-narrowed-by": "tenant"})

    def create_option(self, name: str, value: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        option: dict[str, Any] = super().create_option(name, value, *args, **kwargs)
        if instance := getattr(value, "instance", None):
            option["attrs"]["data-tenant"] = str(instance.tenant_id)
        return option
