"""The subscribers that run, or ran lately, and what each says of itself, for staff."""

from django.db.models import QuerySet
from django.utils import timezone
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import serializers

from natsbridge.models import SubscriberStatus
from natsbridge.subscriber.status import SILENT_AFTER
from tenants.api.base.permissions import MayInAdmin
from tenants.api.base.serializers import RowSerializer
from tenants.api.base.viewsets import ResourceViewSet


class SubscriberSerializer(RowSerializer[SubscriberStatus]):
    silent = serializers.SerializerMethodField(help_text="It has missed several of its beats.")
    details = serializers.DictField(
        read_only=True, help_text="Counters, breakers, streams, consumers, and what parts say."
    )

    class Meta:
        model = SubscriberStatus
        fields = [
            *("instance", "started_at", "beat_at", "silent"),
            *("connected", "paused", "details"),
        ]
        read_only_fields = fields

    def get_silent(self, status: SubscriberStatus) -> bool:
        return timezone.now() - status.beat_at > SILENT_AFTER


@extend_schema(tags=["Subscribers"])
@extend_schema_view(
    list=extend_schema(summary="List subscribers"),
    retrieve=extend_schema(summary="Show a subscriber"),
)
class SubscriberViewSet(ResourceViewSet[SubscriberStatus]):
    queryset = SubscriberStatus.objects.none()
    serializer_class = SubscriberSerializer
    permission_classes = [MayInAdmin]
    lookup_field = "instance"
    lookup_value_converter = "text"
    ordering_fields = ("instance", "started_at", "beat_at")
    ordering = "instance"

    def get_queryset(self) -> QuerySet[SubscriberStatus]:
        return SubscriberStatus.objects.managed_by(self.request.user)
