"""Show the status of the subscribers."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.safestring import SafeString

from natsbridge.admin.base import ReadOnlyAdmin, label, pretty_json
from natsbridge.models import SubscriberStatus
from natsbridge.subscriber import pause
from natsbridge.subscriber.status import SILENT_AFTER


@admin.register(SubscriberStatus)
class SubscriberStatusAdmin(ReadOnlyAdmin):
    list_display = ("instance", "state", "beat_at", "started_at")
    fields = ("instance", "state", "started_at", "beat_at", "pretty_details")
    readonly_fields = fields
    list_before_template = "admin/pause.html"

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        context = {**(extra_context or {}), "pause": pause.current()}
        page: HttpResponse = super().changelist_view(request, context)
        return page

    @admin.display(description="State")
    def state(self, status: SubscriberStatus) -> SafeString:
        if timezone.now() - status.beat_at > SILENT_AFTER:
            return label("Silent", "danger")
        if status.connected and status.paused:
            return label("Paused", "warning")
        if not status.connected:
            return label("Disconnected", "warning")
        return label("Connected", "success")

    @admin.display(description="Details")
    def pretty_details(self, status: SubscriberStatus) -> SafeString:
        return pretty_json(status.details)
