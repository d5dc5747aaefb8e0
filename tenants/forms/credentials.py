"""Forms to revoke, suspend and rotate, which the admin and the pages share."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django import forms

from tenants.models import Credential, Tenant
from tenants.rules.durations import parse_overlap

REASON_MAX = 300


class OverlapField(forms.CharField):
    """A length of time; `cleaned_data` has a timedelta."""

    def __init__(self, **options: Any) -> None:
        given: dict[str, Any] = {
            "label": "Overlap",
            "initial": "24h",
            "max_length": 12,
            "help_text": "How long the old one stays valid: 24h, 90m, 7d, or 0. It ends earlier "
            "once the new one has been used.",
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
        max_length=REASON_MAX, help_text="It is shown here and stored in the audit log."
    )


class OverlapForm(forms.Form):
    overlap = OverlapField()


class IssueForm(forms.Form):
    """A further credential of a tenant."""

    kind = KindField(help_text="The first use of a new password ends the passwords before it.")


class RotateForm(OverlapForm):
    """A new credential of a tenant, which replaces old ones."""

    kind = KindField()
    every_device = forms.BooleanField(
        label="Rotate the credentials of all its devices too",
        required=False,
        help_text="The agents are told a few at a time, and fetch new credentials by themselves.",
    )
    # The newest credential that the page with the button showed.
    seen = forms.IntegerField(widget=forms.HiddenInput, min_value=0, initial=0)
    field_order = ("kind", "overlap", "every_device")

    def __init__(self, *args: Any, kept: int = 0, names: Sequence[str] = (), **kwargs: Any) -> None:
        """`kept` is how many devices keep their credentials, `names` are some of them."""
        super().__init__(*args, **kwargs)
        if kept:
            noun = "device" if kept == 1 else "devices"
            named = f" ({', '.join(names)}{', …' if kept > len(names) else ''})" if names else ""
            self.fields["every_device"].help_text += (
                f" The agents of {kept} {noun}{named} do not; these keep their credentials until "
                "they have used newer ones. With an overlap of 0 they end at once."
            )

    @staticmethod
    def newest(tenant: Tenant) -> int:
        """Return the initial value of `seen`."""
        own = tenant.credentials.filter(device_uuid=None)
        return own.values_list("pk", flat=True).order_by("-pk").first() or 0

    def options(self) -> dict[str, Any]:
        """Return the arguments of a rotation, except for its author."""
        return {name: self.cleaned_data[name] for name in ("kind", "overlap")}

    def replaced(self, tenant: Tenant) -> Credential | None:
        """Return the credential that the person saw in use.

        If it is no longer the newest, somebody else was faster.
        """
        own = tenant.credentials.filter(device_uuid=None, kind=self.cleaned_data["kind"])
        seen = own.filter(pk__lte=self.cleaned_data["seen"]).order_by("-pk")
        # Where that one has ended and a newer one is in use, return it all the same.
        return seen.live().first() or (seen.first() if own.live().exists() else None)
