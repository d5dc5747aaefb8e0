"""Who may do what in which tenant; shown on the tenant's page and on the person's."""

from django import forms
from unfold.admin import TabularInline

from tenants.models import Membership


class MembershipForm(forms.ModelForm):
    """Only the role of a membership changes: another person or tenant is another membership."""

    class Meta:
        model = Membership
        fields = ("user", "tenant", "role")

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        for name in {"user", "tenant"} & self.fields.keys():
            self.fields[name].disabled = not self.instance._state.adding


class MembershipInline(TabularInline):
    model = Membership
    form = MembershipForm
    autocomplete_fields = ("user", "tenant")
    extra = 0
    tab = True
