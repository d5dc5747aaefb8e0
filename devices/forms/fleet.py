"""The filters and the order of the fleet page."""

from typing import Any

from django import forms
from django.db.models import F, Q
from django.db.models.fields.json import KeyTextTransform, KeyTransform

from devices.forms.choices import GroupChoice, SelectOfTenant
from devices.models import Device
from devices.models.device import DeviceQuerySet
from devices.presence.rules import Cutoffs, Status
from tenants.models import Group, Tenant, User

SYSTEM = KeyTransform("system_info", "connectivity__connection_info")
SORTS: dict[str, tuple[F | KeyTextTransform, ...]] = {
    "name": (F("name"),),
    "tenant": (F("tenant__name"), F("group__organisation__name"), F("group__name")),
    "platform": (KeyTextTransform("platform", SYSTEM),),
    "version": (F("connectivity__agent_version"),),
    "seen": (F("connectivity__last_seen_online"),),
}


class FleetFilters(forms.Form):
    """The query string of the fleet page."""

    q = forms.CharField(required=False, max_length=200)
    status = forms.ChoiceField(required=False, choices=[(each, each) for each in Status])
    tenant = forms.ModelChoiceField(Tenant.objects.none(), required=False)
    group = GroupChoice(
        Group.objects.none(), required=False, empty_label="All groups", widget=SelectOfTenant
    )
    sort = forms.ChoiceField(
        required=False, choices=[(key, key) for name in SORTS for key in (name, f"-{name}")]
    )

    def __init__(self, data: Any, person: User) -> None:
        super().__init__(data)
        self.person = person
        # Why no device can match all filters.
        self.contradiction = ""
        groups = Group.objects.visible_to(person).select_related("tenant", "organisation")
        tenants = Tenant.objects.visible_to(person)
        self.fields["tenant"].queryset = tenants  # type: ignore[attr-defined]
        self.fields["group"].queryset = groups.order_by(  # type: ignore[attr-defined]
            "tenant__name", "organisation__name", "name"
        )

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        tenant, group = data.get("tenant"), data.get("group")
        if tenant and group and group.tenant_id != tenant.pk:
            self.contradiction = (
                f"The group {group.organisation.name} / {group.name} belongs to "
                f"{group.tenant.name}, not to {tenant.name}."
            )
            self.add_error("group", self.contradiction)
        return data

    def matching(self) -> DeviceQuerySet:
        """Return the devices that match all filters but the status; none if a value is invalid."""
        devices = Device.objects.visible_to(self.person)
        if not self.is_valid():
            return devices.none()
        if tenant := self.cleaned_data["tenant"]:
            devices = devices.filter(tenant=tenant)
        if group := self.cleaned_data["group"]:
            devices = devices.filter(group=group)
        if term := self.cleaned_data["q"]:
            hostname = "connectivity__connection_info__system_info__hostname__icontains"
            devices = devices.filter(
                Q(name__icontains=term) | Q(uuid__icontains=term) | Q(**{hostname: term})
            )
        return devices

    def narrowed_and_sorted(self, devices: DeviceQuerySet, cutoffs: Cutoffs) -> DeviceQuerySet:
        """Return those of `devices` that have the chosen status, in the chosen order."""
        if not self.is_valid():
            return devices
        if status := self.cleaned_data["status"]:
            devices = devices.with_status(Status(status), cutoffs)
        key = self.cleaned_data["sort"] or "name"
        fields = SORTS[key.lstrip("-")]
        order = [
            field.desc(nulls_last=True) if key.startswith("-") else field.asc(nulls_last=True)
            for field in fields
        ]
        return devices.order_by(*order, "uuid")

    @property
    def active(self) -> bool:
        return any(self.data.get(name) for name in ("q", "status", "tenant", "group"))
