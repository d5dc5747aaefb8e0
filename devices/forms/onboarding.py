"""The forms by which an admin brings over a fleet that was registered elsewhere."""

from typing import Any

from django import forms

from devices.onboarding import rules
from natsbridge.confirmation import Confirmation
from tenants.forms.choices import PlaceChoice
from tenants.models import Group, Role, Tenant, User

WHOLE_TENANT = "The whole tenant"


class GroupForm(forms.Form):
    """Choose one group of the tenant, or the whole tenant."""

    group = PlaceChoice(Group.objects.none(), required=False, empty_label=WHOLE_TENANT)

    def __init__(self, data: Any = None, *, person: User, tenant: Tenant, **options: Any) -> None:
        super().__init__(data, **options)
        visible = Group.objects.visible_to(person, Role.ADMIN).filter(tenant=tenant)
        self.fields["group"].queryset = visible.select_related(  # type: ignore[attr-defined]
            "tenant", "organisation"
        ).order_by("organisation__name", "name")


class ImportForm(GroupForm):
    """A CSV file, and the group of the rows that name none."""

    file = forms.FileField(
        label="CSV file",
        help_text=f"The first line names the columns: {', '.join(rules.REQUIRED)} and, if wanted, "
        f"group (a name or a UUID), hardware_info (JSON) and connection_type (by default "
        f"{rules.DEFAULT_TYPE}). At most {rules.MOST_ROWS:,} devices and 2.5 MB.",
    )
    field_order = ("file", "group")

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.fields["group"].label = "Group of rows without one"
        self.fields["group"].empty_label = "Each row names its group"  # type: ignore[attr-defined]

    def rows(self) -> rules.Rows:
        return rules.read_csv(self.cleaned_data["file"].read())


class TokensForm(GroupForm):
    again = forms.BooleanField(
        label="Also for devices that hold a token",
        required=False,
        help_text="Their tokens become invalid. Devices that have logged in keep theirs.",
    )


class CompleteForm(forms.Form):
    despite_remaining = forms.BooleanField(
        label="Devices that have not logged in yet may stay behind", required=False
    )


UNDO = Confirmation(
    "Undo the upgrade of {}",
    "What was issued to the devices becomes invalid, tokens and credentials. A device that has "
    "logged in to the broker stays as it is.",
    "Undo the upgrade",
    done="The upgrade has been undone.",
)
UNDO_IMPORT = Confirmation(
    "Undo {}",
    "The devices of this import are deleted. A device that has logged in to the broker stays.",
    "Delete its devices",
    done="The import has been undone.",
)
COMPLETE = Confirmation(
    "Mark {} as migrated",
    "Its fleet has moved to NATS. No devices can be imported until this is taken back.",
    "Mark as migrated",
    CompleteForm,
    "The tenant is marked as migrated.",
    dangerous=False,
)
REOPEN = Confirmation(
    "Reopen the migration of {}",
    "Devices can be imported again.",
    "Reopen the migration",
    done="The migration is open again.",
    dangerous=False,
)
