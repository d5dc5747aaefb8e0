"""The admin of devices: all that is stored about each; only its group can be changed here."""

from collections.abc import Callable
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import StackedInline
from unfold.contrib.filters.admin import (
    AllValuesCheckboxFilter,
    DropdownFilter,
    RelatedDropdownFilter,
)
from unfold.decorators import action

from devices.admin.access import AccessAdmin, RevokedFilter
from devices.admin.adding import AddingAdmin
from devices.admin.latest import RealtimeDataInline
from devices.admin.parts import PartOfDevice
from devices.models import Command, Connectivity, Device
from devices.presence.coverage import current_cutoffs
from devices.presence.rules import Status
from natsbridge.admin.base import label, moment, pretty_json
from tenants.admin.choices import GroupChoiceField, groups_to_choose
from tenants.forms.choices import path_of
from tenants.models import User

STATUS_KINDS = {
    Status.ONLINE: "success",
    Status.STALE: "warning",
    Status.OFFLINE: "danger",
    Status.UNKNOWN: "",
}


# The name of the filter by tenant in a query string.
CHOSEN_TENANT = "tenant__uuid__exact"


class StatusFilter(DropdownFilter):
    title = "status"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: object) -> list[tuple[str, str]]:
        return [(status.value, status.value) for status in Status]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Device]) -> QuerySet[Device]:
        if self.value() is None:
            return queryset
        if self.value() not in list(Status):
            return queryset.none()
        wanted = Device.objects.with_status(Status(self.value()), current_cutoffs())
        return queryset.filter(pk__in=wanted.values("pk"))


class GroupFilter(DropdownFilter):
    title = "group"
    parameter_name = "group"

    def lookups(self, request: HttpRequest, model_admin: object) -> list[tuple[str, str]]:
        """Return the groups of the chosen tenant and the chosen group, each with its full name."""
        chosen = request.GET.get(self.parameter_name, "")
        tenant = request.GET.get(CHOSEN_TENANT, "")
        return [
            (str(group.pk), path_of(group))
            for group in groups_to_choose()
            if not tenant or tenant == str(group.tenant_id) or chosen == str(group.pk)
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Device]) -> QuerySet[Device]:
        if self.value() is None:
            return queryset
        known = self.value() in dict(self.lookup_choices)
        return queryset.filter(group=self.value()) if known else queryset.none()


class DeviceForm(forms.ModelForm):
    group = GroupChoiceField()

    class Meta:
        model = Device
        fields = ("group",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields.get("group")
        if isinstance(field, GroupChoiceField):
            field.queryset = groups_to_choose().filter(tenant=self.instance.tenant_id)
            field.error_messages["invalid_choice"] = (
                "A device stays within its tenant: choose one of the tenant's own groups."
            )


class ConnectivityInline(PartOfDevice, StackedInline):
    model = Connectivity
    fields = (
        "connection_type",
        "agent_version",
        "last_heartbeat",
        "last_seen_online",
        "http_heartbeat_at",
        "session_id",
        "clock_offset_seconds",
        "pretty_info",
        "pretty_capabilities",
    )
    readonly_fields = fields

    @admin.display(description="Reported by the agent")
    def pretty_info(self, connectivity: Connectivity) -> SafeString:
        return pretty_json(connectivity.connection_info)

    @admin.display(description="Capabilities")
    def pretty_capabilities(self, connectivity: Connectivity) -> SafeString:
        return pretty_json(connectivity.capabilities)


@admin.register(Device)
class DeviceAdmin(AddingAdmin, AccessAdmin):
    form = DeviceForm
    list_select_related = ("tenant", "group", "connectivity")
    list_filter = (
        StatusFilter,
        RevokedFilter,
        ("tenant", RelatedDropdownFilter),
        GroupFilter,
        ("connectivity__agent_version", AllValuesCheckboxFilter),
    )
    list_filter_submit = True
    # With counts, each of some thousand tenants would be a column of one query.
    show_facets = admin.ShowFacets.NEVER
    search_fields = ("name", "uuid", "nkey_public")
    search_help_text = "Name, UUID or public key"
    fieldsets = (
        (None, {"fields": ("name", "status", "access_and_why", "last_seen", "tenant", "group")}),
        ("Identity", {"fields": ("uuid", "nkey_public", "created_at", "pretty_hardware")}),
        ("Credentials", {"fields": ("credentials",)}),
    )
    readonly_fields = (
        "name",
        "status",
        "access_and_why",
        "last_seen",
        "tenant",
        "uuid",
        "nkey_public",
        "created_at",
        "pretty_hardware",
        "credentials",
    )
    inlines = (ConnectivityInline, RealtimeDataInline)
    actions_detail = ("open_live_page", "list_commands", *AccessAdmin.actions_detail)

    def get_list_display(self, request: HttpRequest) -> tuple[str | Callable[..., object], ...]:
        return (
            "name",
            status_column(),
            "access",
            "last_seen",
            "tenant",
            "group",
            "agent_version",
            "live_page",
        )

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        if request.method == "GET" and (words := _contradiction(request)):
            self.message_user(request, words, messages.WARNING)
        answer: HttpResponse = super().changelist_view(request, extra_context)
        return answer

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return isinstance(request.user, User) and request.user.is_superuser

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        """Return numbers instead of a list, since a device may have thousands of commands."""
        devices = list(objs)
        commands = Command.objects.filter(device__in=devices).count()
        numbers = {"devices": len(devices), "commands": commands}
        return [str(device) for device in devices], numbers, set(), []

    @action(description="Live page", icon="monitoring")
    def open_live_page(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return redirect("device", object_id)

    # Named by a method, since unfold looks up "devices.view_command" in the database when it
    # checks this class, which is before there are tables to migrate.
    @action(description="Commands", icon="terminal", permissions=["view_command"])
    def list_commands(self, request: HttpRequest, object_id: str) -> HttpResponse:
        commands = reverse("admin:devices_command_changelist")
        return redirect(f"{commands}?device__uuid__exact={object_id}")

    def has_view_command_permission(
        self, request: HttpRequest, object_id: str | None = None
    ) -> bool:
        return request.user.has_perm("devices.view_command")

    @admin.display(description="Status")
    def status(self, device: Device) -> SafeString:
        return status_label(device.status(current_cutoffs()))

    @admin.display(description="Last seen", ordering="connectivity__last_seen_online")
    def last_seen(self, device: Device) -> str:
        return moment(seen_at(device), otherwise="never")

    @admin.display(description="Agent", ordering="connectivity__agent_version")
    def agent_version(self, device: Device) -> str:
        connectivity = connectivity_of(device)
        return connectivity.agent_version if connectivity else ""

    @admin.display(description="Hardware")
    def pretty_hardware(self, device: Device) -> SafeString:
        return pretty_json(device.hardware_info)

    @admin.display(description="Live")
    def live_page(self, device: Device) -> SafeString:
        return format_html(
            '<a class="text-link" href="{}">Live page</a>', reverse("device", args=[device.pk])
        )


def _contradiction(request: HttpRequest) -> str:
    """Return why no device can match the chosen tenant and group, or an empty text."""
    try:
        group = UUID(request.GET.get(GroupFilter.parameter_name, ""))
        tenant = UUID(request.GET.get(CHOSEN_TENANT, ""))
    except ValueError:
        return ""
    found = groups_to_choose().filter(pk=group).exclude(tenant=tenant).first()
    return f"The group {path_of(found)} is not one of the chosen tenant's." if found else ""


def status_column() -> Callable[[Device], SafeString]:
    """A column that reads the coverage once for the whole list, when its first row is shown."""
    cutoffs = cache(current_cutoffs)

    @admin.display(description="Status", ordering="connectivity__last_seen_online")
    def status(device: Device) -> SafeString:
        return status_label(device.status(cutoffs()))

    return status


def status_label(status: Status) -> SafeString:
    return label(status.value, STATUS_KINDS[status])


def connectivity_of(device: Device) -> Connectivity | None:
    return getattr(device, "connectivity", None)


def seen_at(device: Device) -> datetime | None:
    connectivity = connectivity_of(device)
    return connectivity.last_seen_online if connectivity else None
