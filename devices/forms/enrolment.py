"""The form that creates an enrolment key for new devices."""

from datetime import timedelta
from typing import Any

from django import forms
from django.utils import timezone

from tenants.forms.choices import PlaceChoice
from tenants.models import Group, Role, User
from tenants.names import validate_name


class AddDeviceForm(forms.Form):
    """An enrolment key for new devices of one group, created by an admin of its tenant."""

    LIFETIMES = (("1", "one day"), ("7", "seven days"), ("30", "thirty days"), ("", "without end"))

    group = PlaceChoice(Group.objects.none(), empty_label=None)
    name = forms.CharField(
        label="Name of the key",
        max_length=100,
        validators=[validate_name],
        initial="Added in the browser",
        help_text="So that you can tell later what it was for.",
    )
    max_uses = forms.IntegerField(
        label="Devices",
        min_value=1,
        max_value=100_000,
        initial=1,
        required=False,
        help_text="How many devices may enrol with it. Empty: any number.",
    )
    lifetime = forms.ChoiceField(label="Valid for", choices=LIFETIMES, initial="1", required=False)

    def __init__(self, person: User, data: Any = None, initial: Any = None) -> None:
        super().__init__(data, initial=initial)
        self.fields["group"].queryset = (  # type: ignore[attr-defined]
            Group.objects.visible_to(person, Role.ADMIN)
            .select_related("tenant", "organisation")
            .order_by("tenant__name", "organisation__name", "name")
        )

    def key_options(self) -> dict[str, Any]:
        """Return what creating the key needs besides its group and author."""
        days = self.cleaned_data["lifetime"]
        return {
            "name": self.cleaned_data["name"],
            "max_uses": self.cleaned_data["max_uses"],
            "expires_at": timezone.now() + timedelta(days=int(days)) if days else None,
        }
