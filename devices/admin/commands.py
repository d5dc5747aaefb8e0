"""What devices were told to do, and what came of it."""

from typing import Any
from uuid import UUID

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import (
    ChoicesDropdownFilter,
    FieldTextFilter,
    RelatedDropdownFilter,
)
from unfold.paginator import InfinitePaginator

from devices.models import Command, CommandState
from natsbridge.admin.base import ReadOnlyAdmin, label, preformatted, pretty_json

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
    """The table grows without end, so nothing here counts or sorts the whole of it."""

    list_display = ("command", "state_label", "device", "tenant", "created_by", "created_at")
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
        (None, {"fields": ("command", "state_label", "device", "created_by", "pretty_error")}),
        ("Parameters and result", {"fields": ("pretty_parameters", "pretty_result")}),
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
                )
            },
        ),
    )
    readonly_fields = ("state_label", "pretty_error", "pretty_parameters", "pretty_result")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Command]:
        # A result may be a megabyte, so a list of commands must not carry theirs.
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

    @admin.display(description="Tenant")
    def tenant(self, command: Command) -> str:
        return str(command.device.tenant)

    @admin.display(description="Error")
    def pretty_error(self, command: Command) -> SafeString | str:
        return preformatted(command.error) if command.error else ""

    @admin.display(description="Parameters")
    def pretty_parameters(self, command: Command) -> SafeString:
        return pretty_json(command.parameters)

    @admin.display(description="Result")
    def pretty_result(self, command: Command) -> SafeString | str:
        return "" if command.result is None else pretty_json(command.result)


def uuid_or_none(text: str) -> UUID | None:
    try:
        return UUID(text.strip())
    except ValueError:
        return None
