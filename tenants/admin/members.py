"""Memberships, on the pages of tenants and of people."""

from typing import Any

from django import forms
from django.http import HttpRequest
from unfold.admin import TabularInline

from tenants.actions import powers
from tenants.admin.writing import person_of
from tenants.models import Membership, Role, User


class MembershipForm(forms.ModelForm):
    """Lets only the role change: another person or tenant is another membership."""

    class Meta:
        model = Membership
        fields = ("user", "tenant", "role")

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        for name in {"user", "tenant"} & self.fields.keys():
            self.fields[name].disabled = not self.instance._state.adding


class MembershipFormSet(forms.BaseInlineFormSet):
    """Refuses to give or take a role that `by` does not have in the tenant."""

    by: User

    def clean(self) -> None:
        super().clean()
        for form in self.forms:
            if form.is_valid() and form.has_changed():
                self._check(form)

    def _check(self, form: forms.BaseModelForm) -> None:
        before, after = form.initial.get("role"), form.cleaned_data.get("role")
        roles = {Role(role) for role in (before, after) if role}
        tenant = form.instance.tenant
        if not all(powers.assigns(self.by, tenant.pk, role) for role in roles):
            form.add_error(
                None, f"Only a superuser, or a person with this role in {tenant.name}, may do this."
            )
            raise forms.ValidationError("You cannot give or take a role that you do not have.")


class MembershipInline(TabularInline):
    model = Membership
    form = MembershipForm
    autocomplete_fields = ("user", "tenant")
    extra = 0
    tab = True

    def get_formset(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:
        formset = type("FormSet", (MembershipFormSet,), {"by": person_of(request)})
        return super().get_formset(request, obj, **{"formset": formset, **kwargs})
