"""Pass rows from forms and inlines to the actions that write them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.forms import BaseInlineFormSet, ModelForm
from django.http import HttpRequest, HttpResponse
from unfold.admin import ModelAdmin

from tenants.actions.people import remove_membership, set_membership
from tenants.actions.tenants import create_group, create_organisation, delete_place, rename
from tenants.errors import PowerMissing
from tenants.models import Group, Membership, Organisation, Role, Tenant, User


@contextmanager
def powers_needed() -> Iterator[None]:
    """Answer 403 with the reason of a PowerMissing."""
    try:
        yield
    except PowerMissing as error:
        raise PermissionDenied(str(error)) from error


class AsksForPowers(ModelAdmin):
    def changeform_view(self, *args: Any, **kwargs: Any) -> HttpResponse:
        with powers_needed():
            return super().changeform_view(*args, **kwargs)

    def delete_view(self, *args: Any, **kwargs: Any) -> HttpResponse:
        with powers_needed():
            return super().delete_view(*args, **kwargs)

    def changelist_view(self, *args: Any, **kwargs: Any) -> HttpResponse:
        with powers_needed():
            return super().changelist_view(*args, **kwargs)


class InlinesByAction(AsksForPowers):
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
    """Return who sent the request: nobody else than a User reaches the admin."""
    return cast(User, request.user)


def write(row: Model, by: User) -> None:
    """Create the row, which then has its primary key, or change what may change."""
    match row:
        case Membership():
            row.pk = set_membership(row.user, row.tenant, Role(row.role), by=by).pk
        case Organisation() if row._state.adding:
            row.pk = create_organisation(row.tenant, name=row.name, by=by).pk
        case Group() if row._state.adding:
            row.pk = create_group(row.organisation, name=row.name, by=by).pk
        case Tenant() | Organisation() | Group():
            rename(row, name=row.name, by=by)
        case _:
            raise TypeError(f"no action writes {row!r}")


def remove(row: Model, by: User) -> None:
    match row:
        case Membership():
            remove_membership(row, by=by)
        case Organisation() | Group():
            delete_place(row, by=by)
        case _:
            raise TypeError(f"no action removes {row!r}")
