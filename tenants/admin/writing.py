"""From rows as forms and inlines leave them to the actions that write them."""

from django.db.models import Model
from django.forms import BaseInlineFormSet, ModelForm
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from tenants import actions
from tenants.models import Group, Membership, Organisation, Role, Tenant


class InlinesByAction(ModelAdmin):
    def save_formset(
        self,
        request: HttpRequest,
        form: ModelForm,
        formset: BaseInlineFormSet,
        change: bool,
    ) -> None:
        for row in formset.save(commit=False):
            write(row)
        for row in formset.deleted_objects:
            remove(row)


class WritesByAction(InlinesByAction):
    def save_model(self, request: HttpRequest, obj: Model, form: ModelForm, change: bool) -> None:
        write(obj)

    def delete_model(self, request: HttpRequest, obj: Model) -> None:
        remove(obj)


def write(row: Model) -> None:
    """Makes the row, which gets the primary key of what was made, or changes what may change."""
    match row:
        case Membership():
            row.pk = actions.set_membership(row.user, row.tenant, Role(row.role)).pk
        case Organisation() if row._state.adding:
            row.pk = actions.create_organisation(row.tenant, name=row.name).pk
        case Group() if row._state.adding:
            row.pk = actions.create_group(row.organisation, name=row.name).pk
        case Tenant() | Organisation() | Group():
            actions.rename(row, name=row.name)
        case _:
            raise TypeError(f"no action writes {row!r}")


def remove(row: Model) -> None:
    match row:
        case Membership():
            actions.remove_membership(row)
        case Organisation() | Group():
            actions.delete_unused(row)
        case _:
            raise TypeError(f"no action removes {row!r}")
