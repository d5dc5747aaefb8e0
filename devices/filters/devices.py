"""The filters by which people choose devices: on the fleet page, in the API, for bulk commands."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Self

from django import forms
from django.db.models import Q, QuerySet
from django_filters import CharFilter, ChoiceFilter, Filter, FilterSet, ModelChoiceFilter
from django_filters import fields as filter_fields

from devices.filters.inventory import (
    MOST_FIELDS,
    PREFIX,
    TOO_MANY_FIELDS,
    TagFilter,
    filters_given,
    filters_offered,
)
from devices.models import CustomField, Device, Tag
from devices.models.device import DeviceQuerySet
from devices.presence.coverage import current_cutoffs
from devices.presence.rules import Cutoffs, Status
from tenants.forms.choices import SelectOfTenant, path_of
from tenants.models import Group, Organisation, Role, Tenant, User

SYSTEM_INFO = "connectivity__connection_info__system_info"
MOST_TAGS_SHOWN = 200
# How many inputs for custom fields a page has before a tenant is chosen.
MOST_OFFERED = 12
YES_OR_NO = (("true", "Yes"), ("false", "No"))


class PlaceField(filter_fields.ModelChoiceField):
    def label_from_instance(self, place: Any) -> str:
        return path_of(place)


class PlaceFilter(ModelChoiceFilter):
    """Choose a group or an organisation among those that the person may see."""

    field_class = PlaceField


class ArchivedFilter(ChoiceFilter):
    """Leave out archived devices, unless they are asked for: then show them alone."""

    def filter(self, qs: DeviceQuerySet, value: str) -> DeviceQuerySet:
        return qs.exclude(archived_at=None) if value == "true" else qs.in_fleet()


def organisations_of(person: User, role: Role = Role.VIEWER) -> QuerySet[Organisation]:
    visible = Organisation.objects.visible_to(person, role).select_related("tenant")
    return visible.order_by("tenant__name", "name")


def groups_of(person: User, role: Role = Role.VIEWER) -> QuerySet[Group]:
    visible = Group.objects.visible_to(person, role).select_related("tenant", "organisation")
    return visible.order_by("tenant__name", "organisation__name", "name")


def role_of(request: Any) -> Role:
    return getattr(request, "role", Role.VIEWER)


class DeviceFilterForm(forms.Form):
    """Check the values of the filters, and that a device could match all of them."""

    # Why no device can match all filters.
    contradiction = ""

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        if sum(name.startswith(PREFIX) for name in self.data) > MOST_FIELDS:
            # Those beyond were not read, so that more devices would match.
            self.add_error(None, TOO_MANY_FIELDS)
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
        method="having_status",
        choices=[(each.value, each.value) for each in Status],
        empty_label="Any status",
        label="Status",
    )
    tenant = ModelChoiceFilter(
        queryset=lambda request: Tenant.objects.visible_to(request.user, role_of(request)),
        empty_label="All tenants",
    )
    organisation = PlaceFilter(
        field_name="group__organisation",
        queryset=lambda request: organisations_of(request.user, role_of(request)),
        empty_label="All organisations",
        widget=SelectOfTenant,
    )
    group = PlaceFilter(
        queryset=lambda request: groups_of(request.user, role_of(request)),
        label="In group",
        empty_label="All groups",
        widget=SelectOfTenant,
    )
    connection_type = CharFilter(field_name="connectivity__connection_type", max_length=20)
    platform = CharFilter(field_name=f"{SYSTEM_INFO}__platform", lookup_expr="iexact")
    agent_version = CharFilter(field_name="connectivity__agent_version", max_length=64)
    archived = ArchivedFilter(choices=YES_OR_NO, label="Archived")
    revoked = ChoiceFilter(method="with_revoked", choices=YES_OR_NO, label="Revoked")
    tag = TagFilter(label="Tags")

    offered: Sequence[str] = ()

    class Meta:
        model = Device
        fields: tuple[str, ...] = ()
        form = DeviceFilterForm

    def __init__(self, data: Any = None, queryset: Any = None, **options: Any) -> None:
        """Add a filter for each custom field that the data names, as `field.NAME`."""
        super().__init__(data, queryset, **options)
        if self.request:
            self._add(filters_given(self.request.user, self.data))

    @classmethod
    def of(cls, person: User, data: Mapping[str, Any], *, role: Role = Role.VIEWER) -> Self:
        """Return the filters over the devices that the person may see. They offer the tenants,
        organisations and groups in which the person has the role."""
        asker = SimpleNamespace(user=person, role=role)
        return cls(data, Device.objects.visible_to(person), request=asker)

    def offer_fields(self) -> None:
        """Add the filters of the custom fields for which a page shows inputs: those of the chosen
        tenant, or of all if they are few."""
        fields = CustomField.objects.visible_to(self.request.user, role_of(self.request))
        if tenant := self.chosen.get("tenant"):
            fields = fields.filter(tenant=tenant)
        offered = filters_offered(fields[: MOST_OFFERED * 10])
        if tenant or len(offered) <= MOST_OFFERED:
            self._add(offered)
            self.offered = list(offered)
        if hasattr(self, "_form"):
            # It was made without them.
            del self._form

    @property
    def field_inputs(self) -> list[forms.BoundField]:
        """The inputs that `offer_fields` has added."""
        return [self.form[name] for name in self.offered]

    @property
    def tags(self) -> list[str]:
        """The tags that are asked for, as they were written."""
        given = self.form["tag"].value() or []
        return [given] if isinstance(given, str) else list(given)

    @property
    def field_values(self) -> list[tuple[str, str]]:
        """What is asked of custom fields: the name and the value, as they were written."""
        return [
            (name.removeprefix(PREFIX), self.data[name])
            for name in self.given
            if name.startswith(PREFIX)
        ]

    def _add(self, filters: Mapping[str, Filter]) -> None:
        for name, each in filters.items():
            each.model, each.parent = Device, self
            self.filters[name] = each

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
        return self.filter_queryset(self.queryset, but=but)

    def filter_queryset(self, queryset: DeviceQuerySet, but: str = "") -> DeviceQuerySet:
        for name, value in self.form.cleaned_data.items():
            if name != but:
                queryset = self.filters[name].filter(queryset, value)
        return queryset

    def search(self, devices: DeviceQuerySet, name: str, term: str) -> DeviceQuerySet:
        hostname = Q(**{f"{SYSTEM_INFO}__hostname__icontains": term})
        return devices.filter(Q(name__icontains=term) | Q(uuid__icontains=term) | hostname)

    def having_status(self, devices: DeviceQuerySet, name: str, status: str) -> DeviceQuerySet:
        return devices.with_status(Status(status), self.cutoffs)

    def with_revoked(self, devices: DeviceQuerySet, name: str, answer: str) -> DeviceQuerySet:
        return devices.filter(revoked_at__isnull=answer == "false")

    @property
    def cutoffs(self) -> Cutoffs:
        """The moments between the statuses, read once for all that shows these devices."""
        if not hasattr(self, "_cutoffs"):
            self._cutoffs = current_cutoffs()
        return self._cutoffs


def tag_choices(person: User, filters: DeviceFilters) -> list[tuple[str, bool]]:
    """Return the names of the person's tags, and whether the filters ask for each."""
    tags = Tag.objects.visible_to(person, role_of(filters.request))
    if tenant := filters.chosen.get("tenant"):
        tags = tags.filter(tenant=tenant)
    asked = {name.lower() for name in filters.tags}
    names = {name.lower(): name for name in tags.values_list("name", flat=True)[:MOST_TAGS_SHOWN]}
    return [(name, lowered in asked) for lowered, name in sorted(names.items())]
