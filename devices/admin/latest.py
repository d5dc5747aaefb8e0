"""The latest message of each kind from a device, as a list on its page and one by one."""

from typing import Any

from django.contrib import admin
from django.db.models import Model, QuerySet, TextField
from django.db.models.functions import Cast, Length
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import TabularInline
from unfold.paginator import InfinitePaginator

from devices.admin.parts import PartOfDevice, may_see
from devices.models import RealtimeData
from natsbridge.admin.base import ReadOnlyAdmin, pretty_json


class RealtimeDataInline(PartOfDevice, TabularInline):
    """List the messages without their data: there may be a hundred, each up to a megabyte."""

    model = RealtimeData
    fields = ("kind", "received_at", "data_page")
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[RealtimeData]:
        rows: QuerySet[RealtimeData] = super().get_queryset(request)
        size = Length(Cast("data", TextField()))
        return rows.defer("data").annotate(size=size).order_by("kind")

    @admin.display(description="Latest message")
    def data_page(self, latest: Any) -> SafeString:
        page = reverse("admin:devices_realtimedata_change", args=[latest.pk])
        return format_html(
            '<a class="text-link" href="{}">{}</a>', page, filesizeformat(latest.size)
        )


@admin.register(RealtimeData)
class RealtimeDataAdmin(ReadOnlyAdmin):
    """One message; its page is linked from the device's."""

    list_display = ("device", "kind", "received_at")
    list_select_related = ("device",)
    paginator = InfinitePaginator
    show_full_result_count = False
    fields = ("device", "kind", "received_at", "pretty_data")
    readonly_fields = ("pretty_data",)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return may_see(request)

    @admin.display(description="Latest message")
    def pretty_data(self, latest: RealtimeData) -> SafeString:
        return pretty_json(latest.data)
