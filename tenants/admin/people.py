"""People, staff roles and API tokens in the admin."""

from copy import copy
from functools import partial
from typing import Any

from django.contrib import admin
from django.contrib.auth import models as auth
from django.contrib.auth.admin import GroupAdmin as AuthGroupAdmin
from django.contrib.auth.admin import UserAdmin as AuthUserAdmin
from django.db.models import Model, QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.safestring import SafeString
from knox.settings import knox_settings
from unfold.admin import ModelAdmin
from unfold.contrib.filters.admin import BooleanRadioFilter, ChoicesDropdownFilter
from unfold.forms import (
    AdminPasswordChangeForm,
    UserChangeForm,
    UserCreationForm,
)

from natsbridge.admin.base import label, moment
from tenants.actions import powers
from tenants.actions.keys import create_api_token, revoke_api_token
from tenants.actions.people import change_person, create_person, delete_person
from tenants.admin.issuing import IssuingAdmin
from tenants.admin.members import MembershipInline
from tenants.admin.writing import AsksForPowers, InlinesByAction, person_of, powers_needed
from tenants.models import ApiToken, Role, User

# The rights in this admin, which only superusers may give.
POWERS = ("is_staff", "is_superuser", "groups")


@admin.register(User)
class UserAdmin(AuthUserAdmin, InlinesByAction):
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "email", "full_name", "is_active", "is_staff", "last_login")
    list_filter = (
        ("is_active", BooleanRadioFilter),
        ("is_staff", BooleanRadioFilter),
        ("is_superuser", BooleanRadioFilter),
        ("memberships__role", ChoicesDropdownFilter),
    )
    list_filter_submit = True
    fieldsets = (
        (None, {"fields": ("username", "password", "is_active")}),
        ("Person", {"fields": ("first_name", "last_name", "email")}),
        ("This admin", {"fields": POWERS}),
        ("Dates", {"fields": ("last_login", "date_joined")}),
    )
    readonly_fields = ("last_login", "date_joined")
    filter_horizontal = ()
    inlines = (MembershipInline,)

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "groups":
            kwargs |= {
                "label": "Staff roles",
                "help_text": "What this member of staff may do in the admin.",
            }
        return super().formfield_for_manytomany(db_field, request, **kwargs)

    def get_inlines(
        self, request: HttpRequest, obj: User | None
    ) -> tuple[type[MembershipInline], ...]:
        return self.inlines if obj else ()

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> tuple[str, ...]:
        return self.readonly_fields if is_superuser(request) else (*self.readonly_fields, *POWERS)

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        allowed: bool = super().has_change_permission(request, obj)
        return allowed and may_touch(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        allowed: bool = super().has_delete_permission(request, obj)
        return allowed and may_touch(request, obj)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        # Not everybody may delete everybody, so it is done on the person's own page.
        found: dict[str, Any] = super().get_actions(request)
        found.pop("delete_selected", None)
        return found

    def save_model(self, request: HttpRequest, obj: User, form: ModelForm, change: bool) -> None:
        by = person_of(request)
        if not change:
            create_person(obj, by=by)
            return
        change_person(obj, by=by, staff_roles=form.cleaned_data.get("groups"))

    def delete_model(self, request: HttpRequest, obj: User) -> None:
        delete_person(obj, by=person_of(request))

    def user_change_password(
        self, request: HttpRequest, id: str, form_url: str = ""
    ) -> HttpResponse:
        # Django passes its form neither the request nor its author.
        mine = copy(self)
        mine.change_password_form = partial(PasswordForm, by=person_of(request))
        with powers_needed():
            answer: HttpResponse = AuthUserAdmin.user_change_password(mine, request, id, form_url)
        return answer

    @admin.display(description="Name", ordering="last_name")
    def full_name(self, user: User) -> str:
        return user.get_full_name()


class PasswordForm(AdminPasswordChangeForm):
    def __init__(self, *args: Any, by: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._by = by

    def save(self, commit: bool = True) -> User:
        person: User = super().save(commit=False)
        change_person(person, by=self._by)
        return person


def is_superuser(request: HttpRequest) -> bool:
    return isinstance(request.user, User) and request.user.is_superuser


def may_touch(request: HttpRequest, user: User | None) -> bool:
    """Return whether the author of the request has all rights of `user`, or more.

    Who can set a person's password has that person's rights.
    """
    return user is None or powers.covers(person_of(request), user)


admin.site.unregister(auth.Group)


@admin.register(auth.Group)
class StaffRoleAdmin(AuthGroupAdmin, ModelAdmin):
    """Django's groups of permissions, for staff. They have nothing to do with groups of devices."""

    def has_module_permission(self, request: HttpRequest) -> bool:
        return is_superuser(request)

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return is_superuser(request)

    has_change_permission = has_delete_permission = has_view_permission

    def has_add_permission(self, request: HttpRequest) -> bool:
        return is_superuser(request)


@admin.register(ApiToken)
class ApiTokenAdmin(AsksForPowers, IssuingAdmin):
    issued_model = ApiToken
    issued_title = "API token created"
    list_display = ("name", "start", "user", "role", "state", "expires", "created")
    list_select_related = ("user",)
    list_filter = (("role", ChoicesDropdownFilter),)
    list_filter_submit = True
    search_fields = ("name", "token_key", "user__username")
    autocomplete_fields = ("user",)
    add_fieldsets = ((None, {"fields": ("user", "name", "role", "expiry")}),)
    fields = ("name", "start", "user", "role", "state", "expires", "created")
    readonly_fields = ("start", "state", "expires", "created")
    ordering = ("-created",)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        usual = timezone.now() + knox_settings.TOKEN_TTL
        return {"expiry": usual, **super().get_changeform_initial_data(request)}

    def issue(self, request: HttpRequest, draft: ApiToken) -> tuple[ApiToken, str]:
        return create_api_token(
            draft.user,
            name=draft.name,
            role=Role(draft.role),
            expires_at=draft.expiry,
            by=person_of(request),
        )

    def has_delete_permission(self, request: HttpRequest, obj: ApiToken | None = None) -> bool:
        allowed: bool = super().has_delete_permission(request, obj)
        return allowed and (obj is None or may_touch(request, obj.user))

    def delete_model(self, request: HttpRequest, obj: ApiToken) -> None:
        revoke_api_token(obj, by=person_of(request))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[ApiToken]) -> None:
        for token in queryset:
            revoke_api_token(token, by=person_of(request))

    @admin.display(description="Begins with", ordering="token_key")
    def start(self, token: ApiToken) -> str:
        return f"{token.token_key}…"

    @admin.display(description="Expires", ordering="expiry")
    def expires(self, token: ApiToken) -> str:
        return moment(token.expiry, otherwise="never")

    @admin.display(description="State")
    def state(self, token: ApiToken) -> SafeString:
        if token.expiry and token.expiry <= timezone.now():
            return label("Expired", "danger")
        return label("Valid", "success")
