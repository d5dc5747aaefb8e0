"""Messages that could not be used, and the subscribers."""

from typing import Protocol

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.db.models.functions import Length
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat, truncatechars
from django.utils import timezone
from django.utils.safestring import SafeString
from unfold.contrib.filters.admin import AllValuesCheckboxFilter

from natsbridge.admin.base import ReadOnlyAdmin, label, preformatted, pretty_json, readable
from natsbridge.models import ParkedMessage, SubscriberStatus
from natsbridge.status import SILENT_AFTER


class Sized(Protocol):
    body_bytes: int


@admin.register(ParkedMessage)
class ParkedMessageAdmin(ReadOnlyAdmin):
    list_display = ("parked_at", "reason", "subject", "summary", "size", "deliveries")
    list_filter = (("reason", AllValuesCheckboxFilter), "parked_at")
    list_filter_submit = True
    search_fields = ("subject", "detail")
    show_full_result_count = False
    fields = (
        "reason",
        "detail",
        "subject",
        "received_at",
        "parked_at",
        "deliveries",
        "size",
        "pretty_headers",
        "readable_body",
    )
    readonly_fields = fields

    def get_queryset(self, request: HttpRequest) -> QuerySet[ParkedMessage]:
        # A body may be a megabyte, so a list of messages must not carry theirs.
        return ParkedMessage.objects.defer("body").annotate(body_bytes=Length("body"))

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return request.user.has_perm("natsbridge.delete_parkedmessage")

    @admin.display(description="Detail")
    def summary(self, message: ParkedMessage) -> str:
        return truncatechars(message.detail, 80)

    @admin.display(description="Body size", ordering="body_bytes")
    def size(self, message: Sized) -> str:
        return filesizeformat(message.body_bytes)

    @admin.display(description="Headers")
    def pretty_headers(self, message: ParkedMessage) -> SafeString:
        return pretty_json(message.headers)

    @admin.display(description="Body")
    def readable_body(self, message: ParkedMessage) -> SafeString:
        return preformatted(readable(bytes(message.body)))


@admin.register(SubscriberStatus)
class SubscriberStatusAdmin(ReadOnlyAdmin):
    list_display = ("instance", "state", "beat_at", "started_at")
    fields = ("instance", "state", "started_at", "beat_at", "pretty_details")
    readonly_fields = fields

    @admin.display(description="State")
    def state(self, status: SubscriberStatus) -> SafeString:
        if timezone.now() - status.beat_at > SILENT_AFTER:
            return label("Silent", "danger")
        if not status.connected:
            return label("Disconnected", "warning")
        return label("Connected", "success")

    @admin.display(description="Details")
    def pretty_details(self, status: SubscriberStatus) -> SafeString:
        return pretty_json(status.details)
