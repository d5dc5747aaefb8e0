"""What people type where they revoke, suspend and rotate; the admin and the pages share it."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django import forms

from tenants.models import Credential, Tenant
from tenants.rules.durations import parse_overlap

REASON_MAX = 300


class OverlapField(forms.CharField):
    """`cleaned_data` has a timedelta."""

    def __init__(self, **options: Any) -> None:
        given: dict[str, Any] = {
            "label": "Overlap",
            "initial": "24h",
            "max_length": 12,
            "help_text": "How long the old one works beside the new one: 24h, 90m, 7d, or 0. It "
            "ends earlier once the new one has been used.",
        }
        super().__init__(**given | options)

    def clean(self, value: Any) -> timedelta:
        try:
            return parse_overlap(super().clean(value))
        except ValueError as error:
            raise forms.ValidationError(str(error)) from error


class KindField(forms.ChoiceField):
    def __init__(self, **options: Any) -> None:
        given: dict[str, Any] = {
            "label": "New credential",
            "choices": [
                (Credential.Kind.JWT, "Credentials file (JWT)"),
                (Credential.Kind.PASSWORD, "Username and password"),
            ],
            "initial": Credential.Kind.JWT,
        }
        super().__init__(**given | options)

    def clean(self, value: Any) -> Credential.Kind:
        return Credential.Kind(super().clean(value))


class ReasonForm(forms.Form):
    reason = forms.CharField(
        max_length=REASON_MAX, help_text="It is shown with the row and kept in the audit."
    )


class OverlapForm(forms.Form):
    overlap = OverlapField()


class IssueForm(forms.Form):
    """One more credential of a tenant."""

    kind = KindField(help_text="The first use of a new password ends the passwords before it.")


class RotateForm(OverlapForm):
    """A new credential of a tenant in the place of old ones."""

    kind = KindField()
    every_device = forms.BooleanField(
        label="Those of all its devices as well",
        required=False,
        help_text="The agents are told some at a time, and fetch new ones by themselves.",
    )
    # The newest credential that stood on the page with the button.
    seen = forms.IntegerField(widget=forms.HiddenInput, min_value=0, initial=0)
    field_order = ("kind", "overlap", "every_device")

    def __init__(self, *args: Any, kept: int = 0, names: Sequence[str] = (), **kwargs: Any) -> None:
        """`kept`: how many devices are not told, and some of their names."""
        super().__init__(*args, **kwargs)
        if kept:
            noun = "device" if kept == 1 else "devices"
            named = f" ({', '.join(names)}{', …' if kept > len(names) else ''})" if names else ""
            self.fields["every_device"].help_text += (
                f" Not those of {kept} {noun}{named}: they have not said that they do, and keep "
                "theirs until they have used a newer one. With an overlap of 0 theirs end at once."
            )

    @staticmethod
    def newest(tenant: Tenant) -> int:
        """What `seen` begins with."""
        own = tenant.credentials.filter(device_uuid=None)
        return own.values_list("pk", flat=True).order_by("-pk").first() or 0

    def options(self) -> dict[str, Any]:
        """What every rotation takes besides its author."""
        return {name: self.cleaned_data[name] for name in ("kind", "overlap")}

    def replaced(self, tenant: Tenant) -> Credential | None:
        """What the person saw in use: when it is no longer the newest, somebody was faster."""
        own = tenant.credentials.filter(device_uuid=None, kind=self.cleaned_data["kind"])
        seen = own.filter(pk__lte=self.cleaned_data["seen"]).order_by("-pk")
        # Where what was seen has ended and a newer one is in use, it is that which is named.
        return seen.live().first() or (seen.first() if own.live().exists() else None)
