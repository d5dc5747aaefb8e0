"""Enrolment keys in the admin: create, show once, revoke."""

from datetime import timedelta
from typing import Any, cast

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import DropdownFilter, RelatedDropdownFilter
from unfold.decorators import action
from unfold.enums import ActionVariant

from natsbridge.admin.base import label, moment
from tenants.actions.keys import create_enrollment_key, revoke_enrollment_key
from tenants.admin.choices import GroupChoiceField
from tenants.admin.issuing import IssuingAdmin
from tenants.models import EnrollmentKey, User


class EnrollmentKeyForm(forms.ModelForm):
    group = GroupChoiceField()

    class Meta:
        model = EnrollmentKey
        fields = ("group", "name", "max_uses", "expires_at")


class UsableFilter(DropdownFilter):
    title = "state"
    parameter_name = "usable"

    def lookups(self, request: HttpRequest, model_admin: object) -> list[tuple[str, str]]:
        return [("yes", "Usable"), ("no", "Not usable")]

    def queryset(
        self, request: HttpRequest, queryset: QuerySet[EnrollmentKey]
    ) -> QuerySet[EnrollmentKey]:
        usable = EnrollmentKey.objects.usable().values("pk")
        match self.value():
            case "yes":
                return queryset.filter(pk__in=usable)
            case "no":
                return queryset.exclude(pk__in=usable)
        return queryset


@admin.register(EnrollmentKey)
class EnrollmentKeyAdmin(IssuingAdmin):
    issued_model = EnrollmentKey
    issued_title = "Enrolment key created"
    form = EnrollmentKeyForm
    list_display = ("name", "start", "tenant", "group", "used", "expires", "state", "created_at")
    list_select_related = ("group__tenant",)
    list_filter = (UsableFilter, ("group__tenant", RelatedDropdownFilter))
    list_filter_submit = True
    # Counts would make one query with a column for each of thousands of tenants.
    show_facets = admin.ShowFacets.NEVER
    search_fields = ("name", "hint", "group__name", "group__tenant__name")
    add_fieldsets = ((None, {"fields": ("group", "name", "max_uses", "expires_at")}),)
    fields = (
        "name",
        "start",
        "state",
        "tenant",
        "group",
        "used",
        "expires",
        "created_at",
        "created_by",
        "revoked_at",
    )
    readonly_fields = tuple(name for name in fields if name not in ("group", "name"))
    actions = ("revoke_selected",)
    actions_detail = ("revoke",)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        in_a_week = timezone.now() + timedelta(days=7)
        return {"expires_at": in_a_week, **super().get_changeform_initial_data(request)}

    def issue(self, request: HttpRequest, draft: EnrollmentKey) -> tuple[EnrollmentKey, str]:
        return create_enrollment_key(
            draft.group,
            name=draft.name,
            max_uses=draft.max_uses,
            expires_at=draft.expires_at,
            created_by=cast(User, request.user),
        )

    def worth_copying(self, row: EnrollmentKey) -> dict[str, str]:
        return {"Group": str(row.group_id), "Server": settings.PUBLIC_URL}

    def has_delete_permission(self, request: HttpRequest, obj: EnrollmentKey | None = None) -> bool:
        return False

    def has_revoke_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return request.user.has_perm("tenants.change_enrollmentkey")

    @action(description="Revoke selected enrolment keys", permissions=["revoke"])
    def revoke_selected(self, request: HttpRequest, queryset: QuerySet[EnrollmentKey]) -> None:
        for key in queryset:
            self._revoke(request, key)
        self.message_user(request, "The enrolment keys have been revoked.", messages.SUCCESS)

    @action(
        description="Revoke",
        permissions=["revoke"],
        variant=ActionVariant.DANGER,
        icon="block",
        dialog={
            "title": "Revoke this enrolment key?",
            "description": "No further device can enrol with it. Enrolled devices stay.",
            "form_class": None,
            "form_submit_text": "Revoke",
        },
    )
    def revoke(self, request: HttpRequest, form: forms.Form, object_id: str) -> HttpResponse:
        self._revoke(request, get_object_or_404(EnrollmentKey, pk=object_id))
        self.message_user(request, "The enrolment key has been revoked.", messages.SUCCESS)
        # The dialog posts in the background; a plain redirect would stay inside it.
        page = reverse("admin:tenants_enrollmentkey_change", args=[object_id])
        return HttpResponse(headers={"HX-Redirect": page})

    def _revoke(self, request: HttpRequest, key: EnrollmentKey) -> None:
        revoke_enrollment_key(key, by=cast(User, request.user))
        self.log_change(request, key, "Revoked.")

    @admin.display(description="Begins with", ordering="hint")
    def start(self, key: EnrollmentKey) -> str:
        return f"{key.hint}…"

    @admin.display(description="Tenant", ordering="group__tenant__name")
    def tenant(self, key: EnrollmentKey) -> str:
        return str(key.group.tenant)

    @admin.display(description="Used", ordering="uses")
    def used(self, key: EnrollmentKey) -> str:
        return f"{key.uses} of {'any number' if key.max_uses is None else key.max_uses}"

    @admin.display(description="Expires", ordering="expires_at")
    def expires(self, key: EnrollmentKey) -> str:
        return moment(key.expires_at, otherwise="never")

    @admin.display(description="State")
    def state(self, key: EnrollmentKey) -> SafeString:
        if not key.refusal:
            return label("Usable", "success")
        return format_html("{} {}", label("Refused", "danger"), key.refusal)
