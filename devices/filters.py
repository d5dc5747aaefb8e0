"""The filters by which people choose devices: on the fleet page, in the API, for bulk commands."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, Self

from django import forms
from django.db.models import Q, QuerySet
from django_filters import CharFilter, ChoiceFilter, FilterSet, ModelChoiceFilter
from django_filters import fields as filter_fields

from devices.models import Device
from devices.models.device import DeviceQuerySet
from devices.presence.coverage import current_cutoffs
from devices.presence.rules import Cutoffs, Status
from tenants.forms.choices import SelectOfTenant, path_of
from tenants.models import Group, Organisation, Role, Tenant, User

SYSTEM_INFO = "connectivity__connection_info__system_info"
YES_OR_NO = (("true", "Yes"), ("false", "No"))


class PlaceField(filter_fields.ModelChoiceField):
    def label_from_instance(self, place: Any) -> str:
        return path_of(place)


class PlaceFilter(ModelChoiceFilter):
    """Choose a group or an organisation among those that the person may see."""

    field_class = PlaceField


def organisations_of(person: User, role: Role = Role.VIEWER) -> QuerySet[Organisation]:
    visible = Organisation.objects.visible_to(person, role).select_related("tenant")
    return visible.order_by("tenant__name", "name")


def groups_of(person: User, role: Role = Role.VIEWER) -> QuerySet[Group]:
    visible = Group.objects.visible_to(person, role).select_related("tenant", "organisation")
    return visible.order_by("tenant__name", "organisation__name", "name")


class DeviceFilterForm(forms.Form):
    """Check the values of the filters, and that a device could match all of them."""

    # Why no device can match all filters.
    contradiction = ""

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        tenant = data.get("tenant")
        for name in ("organisation", "group"):
            place = data.get(name)
            if tenant and place and place.tenant_id != tenant.pk:
                self.contradiction = (
                    f"The {name} {path_of(place)} does not belong to {tenant.name}."
                )
                self.add_error(name, self.contradiction)
        return data


class DeviceFilters(FilterSet):
    """All filters of devices. A device matches if it matches each filter that has a value."""

    q = CharFilter(method="search", max_length=200, label="Search")
    status = ChoiceFilter(
        method="having_status", choices=[(each, each) for each in Status], empty_label="Any status"
    )
    tenant = ModelChoiceFilter(
        queryset=lambda request: Tenant.objects.visible_to(request.user), empty_label="All tenants"
    )
    organisation = PlaceFilter(
        field_name="group__organisation",
        queryset=lambda request: organisations_of(request.user),
        empty_label="All organisations",
        widget=SelectOfTenant,
    )
    group = PlaceFilter(
        queryset=lambda request: groups_of(request.user),
        empty_label="All groups",
        widget=SelectOfTenant,
    )
    connection_type = CharFilter(field_name="connectivity__connection_type", max_length=20)
    platform = CharFilter(field_name=f"{SYSTEM_INFO}__platform", lookup_expr="iexact")
    agent_version = CharFilter(field_name="connectivity__agent_version", max_length=64)
    archived = ChoiceFilter(method="with_archived", choices=YES_OR_NO, label="Archived")
    revoked = ChoiceFilter(method="with_revoked", choices=YES_OR_NO, label="Revoked")

    class Meta:
        model = Device
        fields: tuple[str, ...] = ()
        form = DeviceFilterForm

    @classmethod
    def of(cls, person: User, data: Mapping[str, Any]) -> Self:
        """Return the filters over the devices that the person may see."""
        return cls(data, Device.objects.visible_to(person), request=SimpleNamespace(user=person))

    @property
    def given(self) -> list[str]:
        """The names of the filters that have a value."""
        return [name for name in self.filters if self.data.get(name)]

    @property
    def contradiction(self) -> str:
        """Why no device can match all filters; empty if one could."""
        return self.form.contradiction if self.errors else ""

    @property
    def chosen(self) -> dict[str, Any]:
        """The valid values by the filter's name."""
        return self.form.cleaned_data if self.form.is_valid() else {}

    def matching(self, *, but: str = "") -> DeviceQuerySet:
        """Return the devices that match all filters, or all except `but`; none if a value is not
        valid."""
        if not self.form.is_valid():
            return self.queryset.none()
        devices = self.queryset
        for name, value in self.form.cleaned_data.items():
            if name == "archived" and not value:
                devices = devices.in_fleet()
            elif name != but:
                devices = self.filters[name].filter(devices, value)
        return devices

    def search(self, devices: DeviceQuerySet, name: str, term: str) -> DeviceQuerySet:
        hostname = Q(**{f"{SYSTEM_INFO}__hostname__icontains": term})
        return devices.filter(Q(name__icontains=term) | Q(uuid__icontains=term) | hostname)

    def having_status(self, devices: DeviceQuerySet, name: str, status: str) -> DeviceQuerySet:
        return devices.with_status(Status(status), self.cutoffs)

    def with_archived(self, devices: DeviceQuerySet, name: str, answer: str) -> DeviceQuerySet:
        return devices.filter(archived_at__isnull=answer == "false")

    def with_revoked(self, devices: DeviceQuerySet, name: str, answer: str) -> DeviceQuerySet:
        return devices.filter(revoked_at__isnull=answer == "false")

    @property
    def cutoffs(self) -> Cutoffs:
        """The moments between the statuses, read once for all that shows these devices."""
        if not hasattr(self, "_cutoffs"):
            self._cutoffs = current_cutoffs()
        return self._cutoffs
