"""The form that chooses the devices of a bulk command."""

import uuid
from typing import Any
from uuid import UUID

from django import forms

from devices.commands import targets
from devices.commands.bulk import Targets
from devices.commands.rules.capabilities import Capability, read_capabilities
from devices.filters.devices import (
    DeviceFilters,
    groups_of,
    organisations_of,
    tag_choices,
)
from devices.models import Device
from tenants.forms.choices import PlaceChoice
from tenants.models import Group, Organisation, Role, User

# How many versions of the agent are asked for their commands.
VERSIONS_ASKED = 20
LISTED_AT_MOST = 10_000


class TargetsForm(forms.Form):
    """Choose devices in one of four ways; the fields of the other ways are ignored.

    `filters` are the fleet page's, so that its query string works here too.
    """

    TARGETS = (
        ("group", "A group"),
        ("organisation", "An organisation"),
        ("filter", "Devices that match a filter"),
        ("devices", "Single devices"),
    )

    target = forms.ChoiceField(
        label="To", choices=TARGETS, initial="group", widget=forms.RadioSelect
    )
    to_group = PlaceChoice(Group.objects.none(), label="Group", required=False, empty_label=None)
    to_organisation = PlaceChoice(
        Organisation.objects.none(), label="Organisation", required=False, empty_label=None
    )
    devices = forms.CharField(
        label="Devices",
        required=False,
        max_length=40 * LISTED_AT_MOST,
        widget=forms.Textarea(attrs={"rows": 4, "class": "code", "spellcheck": "false"}),
        help_text="Their UUIDs, one on each line.",
    )
    # An idempotency key.
    key = forms.CharField(widget=forms.HiddenInput, required=False, max_length=100)

    def __init__(self, person: User, data: Any = None) -> None:
        super().__init__(data, auto_id="id_to_%s", initial={"key": uuid.uuid4()})
        self.person = person
        querysets = {
            "to_group": groups_of(person, Role.OPERATOR),
            "to_organisation": organisations_of(person, Role.OPERATOR),
        }
        for name, queryset in querysets.items():
            self.fields[name].queryset = queryset  # type: ignore[attr-defined]
        self.filters = DeviceFilters.of(person, data or {}, role=Role.OPERATOR)
        self.filters.offer_fields()
        self.tags = tag_choices(person, self.filters)

    @property
    def key_sent(self) -> str:
        return str(self.cleaned_data["key"])

    def clean_devices(self) -> list[UUID]:
        text = self.cleaned_data["devices"]
        if self.data.get("target") != "devices":
            return []
        return [_uuid(each) for each in text.replace(",", " ").split()]

    def clean(self) -> dict[str, Any]:
        data = super().clean() or self.cleaned_data
        target = str(data.get("target", ""))
        field = f"to_{target}" if target in ("group", "organisation") else target
        needed = field in ("to_group", "to_organisation", "devices")
        if needed and not data.get(field) and not self.errors.get(field):
            self.add_error(field, "Choose at least one.")
        return data

    def targets(self) -> Targets:
        """Return the chosen devices. Raise CommandRefused with the reason for the person."""
        data = self.cleaned_data
        match data["target"]:
            case "group":
                return targets.of_group(self.person, data["to_group"].pk)
            case "organisation":
                return targets.of_organisation(self.person, data["to_organisation"].pk)
            case "devices":
                return targets.of_devices(self.person, data["devices"])
        filters = DeviceFilters.of(self.person, self.data)
        wanted = {
            name: filters.tags if name == "tag" else self.data[name] for name in filters.given
        }
        return targets.of_filter(self.person, wanted)


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise forms.ValidationError(f'Not a valid UUID: "{text[:60]}"') from None


def capabilities_among(person: User) -> list[Capability]:
    """Return the commands that agents name in the person's devices; one agent of each version is
    asked."""
    version = "connectivity__agent_version"
    asked = (
        Device.objects.visible_to(person, Role.OPERATOR)
        .exclude(connectivity=None)
        .order_by(version, "-connectivity__last_heartbeat")
        .distinct(version)
        .values_list("connectivity__capabilities", flat=True)[:VERSIONS_ASKED]
    )
    found: dict[str, Capability] = {}
    for stated in asked:
        for capability in read_capabilities(stated):
            found.setdefault(capability.name, capability)
    return sorted(found.values(), key=lambda capability: capability.name)
