"""Show what a device last reported, and its live metrics."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django_filters import CharFilter, FilterSet
from drf_spectacular.helpers import forced_singular_serializer
from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from devices.api.of_device import OfDeviceViewSet, visible_device
from devices.models import RealtimeData
from devices.telemetry import ring_buffers
from tenants.api.base.permissions import IsPerson
from tenants.api.base.serializers import BoundedListField, RowSerializer, StrictSerializer
from tenants.api.base.viewsets import ListViewSet


class ReportSerializer(RowSerializer[RealtimeData]):
    class Meta:
        model = RealtimeData
        fields = ["kind", "received_at", "data"]


class ReportFilters(FilterSet):
    kind = CharFilter(max_length=128)


@extend_schema(tags=["Devices"])
@extend_schema_view(list=extend_schema(summary="List what a device last reported, by kind"))
class ReportViewSet(OfDeviceViewSet[RealtimeData]):
    """The latest `status`, `sysinfo`, and `monitoring:` of each `monitoring_type`."""

    queryset = RealtimeData.objects.none()
    serializer_class = ReportSerializer
    filterset_class = ReportFilters
    ordering_fields = ("kind", "received_at")
    ordering = "kind"


class MetricsQuery(StrictSerializer):
    metric = BoundedListField(
        child=serializers.RegexField(r"\A[A-Za-z0-9_-]{1,64}\Z"),
        required=False,
        max_length=64,
        help_text="Named once or several times; without it, all that the device sends.",
    )
    limit = serializers.IntegerField(
        required=False, min_value=1, max_value=10_000, help_text="The newest points of each."
    )


class PointSerializer(serializers.Serializer[Any]):
    at = serializers.SerializerMethodField()
    value = serializers.FloatField()

    def get_at(self, point: dict[str, Any]) -> datetime:
        return datetime.fromtimestamp(point["timestamp"] / 1000, UTC)


class MetricsSerializer(serializers.Serializer[Any]):
    metrics = serializers.DictField(
        child=PointSerializer(many=True), help_text="By the name of the metric, oldest first."
    )


class MetricsViewSet(ViewSet):
    """The newest points of the metrics that a device sends, whatever their names."""

    authentication_classes = ListViewSet.authentication_classes
    permission_classes = [IsPerson]

    @extend_schema(
        tags=["Devices"],
        summary="Show a device's live metrics",
        parameters=[MetricsQuery],
        responses=forced_singular_serializer(MetricsSerializer),
    )
    def list(self, request: Request, device: UUID) -> Response:
        found = visible_device(request, device)
        asked: dict[str, Any] = dict(request.query_params.items())
        if "metric" in asked:
            asked["metric"] = request.query_params.getlist("metric")
        query = MetricsQuery(data=asked)
        query.is_valid(raise_exception=True)
        wanted = query.validated_data
        names = wanted.get("metric") or ring_buffers.names(found.pk)
        points = ring_buffers.recent(found.pk, names, wanted.get("limit"))
        return Response(MetricsSerializer({"metrics": points}).data)
