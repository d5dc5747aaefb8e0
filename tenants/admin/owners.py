"""Tenants, organisations and groups in the admin."""

from typing import Any, Protocol

from django import forms
from django.contrib import admin
from django.db.models import Count, Model, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import TabularInline
from unfold.contrib.filters.admin import RelatedDropdownFilter
from unfold.widgets import UnfoldAdminTextInputWidget

from tenants.actions.limits import LIMITS, set_limits
from tenants.actions.tenants import create_group, create_organisation, create_tenant
from tenants.admin.broker import AccountStateFilter, BrokerAdmin, TenantForm
from tenants.admin.members import MembershipInline
from tenants.admin.writing import WritesByAction, person_of
from tenants.models import Group, Organisation, Tenant


class Counted(Protocol):
    """A row whose queryset has counted its devices."""

    pk: object
    device_count: int


def link_to_devices(filtered_by: str, owner: Counted) -> SafeString:
    # A link by name, since this app does not know devices.
    page = reverse("admin:devices_device_changelist")
    return format_html(
        '<a class="text-link" href="{}?{}={}">{}</a>',
        page,
        filtered_by,
        owner.pk,
        owner.device_count,
    )


class OrganisationInline(TabularInline):
    model = Organisation
    fields = ("name",)
    extra = 0
    can_delete = False
    show_change_link = True
    tab = True


class GroupInline(TabularInline):
    model = Group
    fields: tuple[str, ...] = ("name",)
    extra = 0
    can_delete = False
    show_change_link = True
    tab = True


class TenantGroupInline(GroupInline):
    """All groups of the tenant. New ones are added on their organisation's page."""

    fields = ("name", "organisation", "devices")
    readonly_fields = ("organisation", "devices")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Group]:
        groups = super().get_queryset(request).select_related("organisation")
        return groups.annotate(device_count=Count("devices"))

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    @admin.display(description="Devices")
    def devices(self, group: Counted) -> SafeString:
        return link_to_devices("group", group)


class NewTenantForm(forms.ModelForm):
    """A new tenant with its first organisation and group, so that devices can enrol."""

    organisation_name = forms.CharField(
        label="First organisation",
        max_length=200,
        required=False,
        help_text="Empty: the name of the tenant.",
        widget=UnfoldAdminTextInputWidget,
    )
    group_name = forms.CharField(
        label="First group", max_length=200, initial="Default", widget=UnfoldAdminTextInputWidget
    )

    class Meta:
        model = Tenant
        fields = ("name",)


@admin.register(Tenant)
class TenantAdmin(BrokerAdmin, WritesByAction):
    form = TenantForm
    list_display = ("name", "devices", "account", "created_at")
    list_select_related = ("broker_account",)
    list_filter = (AccountStateFilter,)
    list_filter_submit = True
    show_facets = admin.ShowFacets.NEVER
    search_fields = ("name",)
    add_fieldsets = ((None, {"fields": ("name", "organisation_name", "group_name")}),)
    fieldsets = (
        (None, {"fields": ("name", "status", "uuid", "devices", "created_at")}),
        (
            "Broker account",
            {"fields": ("account", "account_waits", "account_error", "account_key", "credentials")},
        ),
        ("Limits (-1: no limit)", {"fields": tuple(LIMITS)}),
    )
    readonly_fields = (
        "status",
        "uuid",
        "devices",
        "created_at",
        "account",
        "account_waits",
        "account_error",
        "account_key",
        "credentials",
        "limits_in_force",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Tenant]:
        return Tenant.objects.annotate(device_count=Count("devices"))

    def get_form(
        self, request: HttpRequest, obj: Tenant | None = None, change: bool = False, **kwargs: Any
    ) -> type[forms.ModelForm]:
        if not change:
            kwargs["form"] = NewTenantForm
        form: type[forms.ModelForm] = super().get_form(request, obj, change, **kwargs)
        return form

    def get_fieldsets(self, request: HttpRequest, obj: Tenant | None = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)
        if obj is None or self.has_change_permission(request, obj):
            return fieldsets
        # The form's own fields, which are not the row's, have no read-only value.
        return (*fieldsets[:-1], ("Limits", {"fields": ("limits_in_force",)}))

    def get_inlines(
        self, request: HttpRequest, obj: Tenant | None
    ) -> tuple[type[TabularInline], ...]:
        return (OrganisationInline, TenantGroupInline, MembershipInline) if obj else ()

    def save_model(
        self, request: HttpRequest, obj: Model, form: forms.ModelForm, change: bool
    ) -> None:
        if change and isinstance(form, TenantForm) and isinstance(obj, Tenant):
            super().save_model(request, obj, form, change)
            set_limits(obj, by=person_of(request), **form.limits())
            return
        wanted = form.cleaned_data
        by = person_of(request)
        tenant = create_tenant(name=wanted["name"], by=by)
        organisation = create_organisation(
            tenant, name=wanted["organisation_name"] or tenant.name, by=by
        )
        create_group(organisation, name=wanted["group_name"], by=by)
        obj.pk = tenant.pk

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    @admin.display(description="Devices", ordering="device_count")
    def devices(self, tenant: Counted) -> SafeString:
        return link_to_devices("tenant__uuid__exact", tenant)


class PlaceAdmin(WritesByAction):
    """Places for devices; deleted only while no device is in them."""

    list_filter = (("tenant", RelatedDropdownFilter),)
    list_filter_submit = True
    # Counts would make one query with a column for each of thousands of tenants.
    show_facets = admin.ShowFacets.NEVER

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        # Only an empty place may be deleted, on its own page.
        found: dict[str, Any] = super().get_actions(request)
        found.pop("delete_selected", None)
        return found

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        allowed: bool = super().has_delete_permission(request, obj)
        return allowed and (obj is None or not obj.device_count)

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[Any], dict[str, int], set[str], list[Any]]:
        # Enrolment keys go with their group, although nobody may delete a single one.
        deleted, counts, _, protected = super().get_deleted_objects(objs, request)
        return deleted, counts, set(), protected


@admin.register(Organisation)
class OrganisationAdmin(PlaceAdmin):
    list_display = ("name", "tenant", "devices")
    list_select_related = ("tenant",)
    search_fields = ("name", "tenant__name")
    autocomplete_fields = ("tenant",)
    fields = ("tenant", "name", "uuid")
    inlines = (GroupInline,)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Organisation]:
        return Organisation.objects.annotate(device_count=Count("groups__devices"))

    def get_readonly_fields(
        self, request: HttpRequest, obj: Model | None = None
    ) -> tuple[str, ...]:
        return ("uuid", "tenant") if obj else ("uuid",)

    @admin.display(description="Devices", ordering="device_count")
    def devices(self, organisation: Counted) -> int:
        return organisation.device_count


@admin.register(Group)
class GroupAdmin(PlaceAdmin):
    list_display = ("name", "organisation", "tenant", "devices")
    list_select_related = ("tenant", "organisation")
    search_fields = ("name", "organisation__name", "tenant__name")
    autocomplete_fields = ("organisation",)
    fields = ("organisation", "name", "uuid", "tenant")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Group]:
        return Group.objects.annotate(device_count=Count("devices"))

    def get_readonly_fields(
        self, request: HttpRequest, obj: Model | None = None
    ) -> tuple[str, ...]:
        # A group in another organisation would take its devices to another owner.
        return ("uuid", "tenant", "organisation") if obj else ("uuid", "tenant")

    @admin.display(description="Devices", ordering="device_count")
    def devices(self, group: Counted) -> SafeString:
        return link_to_devices("group", group)
