"""From rows as forms and inlines leave them to the actions that write them."""

from typing import cast

from django.db.models import Model
from django.forms import BaseInlineFormSet, ModelForm
from django.http import HttpRequest
from unfold.admin import ModelAdmin

from tenants import actions
from tenants.models import Group, Membership, Organisation, Role, Tenant, User


class InlinesByAction(ModelAdmin):
    def save_formset(
        self,
        request: HttpRequest,
        form: ModelForm,
        formset: BaseInlineFormSet,
        change: bool,
    ) -> None:
        for row in formset.save(commit=False):
            write(row, person_of(request))
        for row in formset.deleted_objects:
            remove(row, person_of(request))


class WritesByAction(InlinesByAction):
    def save_model(self, request: HttpRequest, obj: Model, form: ModelForm, change: bool) -> None:
        write(obj, person_of(request))

    def delete_model(self, request: HttpRequest, obj: Model) -> None:
        remove(obj, person_of(request))


def person_of(request: HttpRequest) -> User:
    """Nobody else gets into the admin."""
    return cast(User, request.user)


def write(row: Model, by: User) -> None:
    """Makes the row, which gets the primary key of what was made, or changes what may change."""
    match row:
        case Membership():
            row.pk = actions.set_membership(row.user, row.tenant, Role(row.role), by=by).pk
        case Organisation() if row._state.adding:
            row.pk = actions.create_organisation(row.tenant, name=row.name, by=by).pk
        case Group() if row._state.adding:
            row.pk = actions.create_group(row.organisation, name=row.name, by=by).pk
        case Tenant() | Organisation() | Group():
            actions.rename(row, name=row.name, by=by)
        case _:
            raise TypeError(f"no action writes {row!r}")


def remove(row: Model, by: User) -> None:
    match row:
        case Membership():
            actions.remove_membership(row, by=by)
        case Organisation() | Group():
            actions.delete_unused(row, by=by)
        case _:
            raise TypeError(f"no action removes {row!r}")
