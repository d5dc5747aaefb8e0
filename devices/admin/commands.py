"""Commands and their results, with the actions to cancel, give up and retry them."""

from datetime import datetime
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import (
    ChoicesDropdownFilter,
    FieldTextFilter,
    RelatedDropdownFilter,
)
from unfold.decorators import action
from unfold.paginator import InfinitePaginator

from devices.commands import issue as commands
from devices.errors import CommandRefused
from devices.forms.confirmations import CANCEL, GIVE_UP, RETRY
from devices.models import Command, CommandState
from devices.presence.coverage import current_cutoffs
from natsbridge.admin.base import ReadOnlyAdmin, label, preformatted, pretty_json
from natsbridge.confirmation import Confirmation
from tenants.admin.confirming import admin_name, confirm
from tenants.admin.writing import person_of
from tenants.models import Role, User, has_role

STATE_KINDS = {
    CommandState.QUEUED: "",
    CommandState.SENT: "info",
    CommandState.DELIVERED: "info",
    CommandState.SUCCEEDED: "success",
    CommandState.FAILED: "danger",
    CommandState.EXPIRED: "warning",
    CommandState.CANCELLED: "",
}


@admin.register(Command)
class CommandAdmin(ReadOnlyAdmin):
    """The admin of commands; the table is large, so nothing here counts or sorts all of it."""

    list_display = ("command", "state_label", "device", "tenant", "author", "created_at")
    list_select_related = ("device__tenant", "created_by")
    list_filter = (
        ("state", ChoicesDropdownFilter),
        ("device__tenant", RelatedDropdownFilter),
        ("command", FieldTextFilter),
        "created_at",
    )
    list_filter_submit = True
    search_fields = ("device__name",)
    search_help_text = "UUID of the command or the device, or the device's name"
    sortable_by = ()
    paginator = InfinitePaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    fieldsets = (
        (
            None,
            {
                "fields": (
                    "command",
                    "state_label",
                    "device",
                    "device_offline_since",
                    "author",
                    "pretty_error",
                    "bulk",
                    "retry_of",
                )
            },
        ),
        (
            "Parameters and result",
            {"fields": ("pretty_parameters", "pretty_result", "result_cut_from")},
        ),
        (
            "Times",
            {
                "fields": (
                    "created_at",
                    "sent_at",
                    "sends",
                    "delivered_at",
                    "finished_at",
                    "deadline",
                    "uuid",
                    "request_id",
                )
            },
        ),
    )
    readonly_fields = (
        "state_label",
        "device_offline_since",
        "author",
        "pretty_error",
        "pretty_parameters",
        "pretty_result",
    )
    actions_detail = ("cancel", "give_up", "retry")

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        """Return the actions that apply to the command in its present state."""
        offered = super().get_actions_detail(request, object_id)
        rows = Command.objects.select_related("device__tenant").defer("result")
        command = rows.filter(pk=object_id).first()
        applicable = {"retry"} if command and _may_be_retried(command) else set()
        if command and command.is_open:
            applicable.add("give_up" if command.is_handed_over else "cancel")
        names = {f"devices_command_{name}" for name in applicable}
        return [each for each in offered if each.action_name in names]

    @action(description="Cancel", permissions=["view"], icon="block")
    def cancel(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._end(request, object_id, CANCEL)

    @action(description="Give up", permissions=["view"], icon="block")
    def give_up(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._end(request, object_id, GIVE_UP)

    def _end(
        self, request: HttpRequest, object_id: str, confirmation: Confirmation
    ) -> HttpResponse:
        command = get_object_or_404(Command.objects.select_related("device"), pk=object_id)

        def act(form: forms.Form) -> None:
            commands.cancel(command, by=_operator(request, command))

        return confirm(self, request, command, confirmation, act)

    @action(description="Retry", permissions=["view"], icon="replay")
    def retry(self, request: HttpRequest, object_id: str) -> HttpResponse:
        command = get_object_or_404(Command.objects.select_related("device"), pk=object_id)

        def act(form: forms.Form) -> HttpResponse:
            again = commands.retry(command, by=_operator(request, command))
            return redirect(admin_name(again, "change"), again.pk)

        return confirm(self, request, command, RETRY, act)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Command]:
        # A result may be a megabyte, so the list must not load them.
        return Command.objects.defer("parameters", "result", "error")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        wanted = uuid_or_none(search_term)
        if wanted is not None:
            return queryset.filter(Q(uuid=wanted) | Q(device=wanted)), False
        found: tuple[QuerySet[Any], bool] = super().get_search_results(
            request, queryset, search_term
        )
        return found

    @admin.display(description="State")
    def state_label(self, command: Command) -> SafeString:
        return label(command.get_state_display(), STATE_KINDS[CommandState(command.state)])

    @admin.display(description="Device offline since")
    def device_offline_since(self, command: Command) -> datetime | None:
        return command.device.offline_since(current_cutoffs()) if command.is_open else None

    @admin.display(description="Tenant")
    def tenant(self, command: Command) -> str:
        return str(command.device.tenant)

    @admin.display(description="Created by")
    def author(self, command: Command) -> str:
        if command.by_platform:
            return "by the platform"
        if command.created_by is None:
            return ""
        path = reverse(admin_name(command.created_by, "change"), args=[command.created_by_id])
        return format_html('<a href="{}">{}</a>', path, command.created_by)

    @admin.display(description="Error")
    def pretty_error(self, command: Command) -> SafeString | str:
        return preformatted(command.error) if command.error else ""

    @admin.display(description="Parameters")
    def pretty_parameters(self, command: Command) -> SafeString:
        return pretty_json(command.parameters)

    @admin.display(description="Result")
    def pretty_result(self, command: Command) -> SafeString | str:
        return "" if command.result is None else pretty_json(command.result)


def _may_be_retried(command: Command) -> bool:
    device = command.device
    return not (command.is_open or device.revoked_at or device.tenant.suspended_at)


def _operator(request: HttpRequest, command: Command) -> User:
    """Return the person, who needs the same role as a member; sending checks it again."""
    person = person_of(request)
    if not has_role(person, command.device.tenant_id, Role.OPERATOR):
        raise CommandRefused("This needs the role operator in the device's tenant.")
    return person


def uuid_or_none(text: str) -> UUID | None:
    try:
        return UUID(text.strip())
    except ValueError:
        return None
