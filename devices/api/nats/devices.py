"""A device: its status, its recent metrics, and deleting it."""

from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from devices.api.nats.access import administered_device, device_for
from devices.enrolment import credentials
from devices.models import Connectivity, Device
from devices.models.connectivity import PRESENCES, REPORTERS
from devices.presence.coverage import current_cutoffs
from devices.presence.rules import Status
from devices.telemetry import ring_buffers
from tenants.api.base.fields import EpochField, SuccessField
from tenants.api.base.serializers import StrictSerializer


class RecentMetricsSerializer(serializers.Serializer[Any]):
    metric = serializers.RegexField(r"\A[A-Za-z0-9_-]{1,64}\Z", required=False)
    limit = serializers.IntegerField(required=False, min_value=1, max_value=10_000)


class DeviceAnswer(serializers.Serializer[Any]):
    success = SuccessField()
    device_uuid = serializers.UUIDField()


class DeviceStatusAnswer(serializers.Serializer[Any]):
    """The status of a device, by the `cutoffs` of the context; load `connectivity` with many."""

    success = SuccessField()
    device_uuid = serializers.UUIDField(source="device.pk")
    revoked = serializers.SerializerMethodField()
    is_online = serializers.SerializerMethodField()
    status = serializers.ChoiceField([each.value for each in Status])
    connection_type = serializers.CharField(source="connectivity.connection_type")
    last_heartbeat = EpochField(source="connectivity.newest_heartbeat", allow_null=True)
    last_heartbeat_by = serializers.ChoiceField(
        ["nats", "http"],
        source="connectivity.heartbeat_by",
        allow_null=True,
        help_text="How the last heartbeat came. One over HTTP shows that the device is alive, but "
        "neither brings it online nor gets it commands.",
    )
    last_seen_online = EpochField(source="connectivity.last_seen_online", allow_null=True)
    presence = serializers.ChoiceField(
        PRESENCES,
        source="presence.presence",
        allow_null=True,
        help_text="online while the status is Online or Stale, offline while it is Offline, null "
        "while it is Unknown.",
    )
    presence_since = EpochField(
        source="presence.since", allow_null=True, help_text="null if it is not known."
    )
    reported_by = serializers.ChoiceField(
        REPORTERS,
        source="presence.by",
        allow_null=True,
        help_text="What reported it: the broker, when the device connected or disconnected; its "
        "heartbeat; or the broker's list of connections. null if the device is revoked or has "
        "been silent too long.",
    )
    unstable = serializers.BooleanField(
        source="connectivity.is_unstable",
        help_text="Its connection dropped several times within minutes.",
    )
    agent_version = serializers.CharField(source="connectivity.agent_version")
    connection_info = serializers.JSONField(source="connectivity.connection_info")

    def to_representation(self, device: Device) -> dict[str, Any]:
        cutoffs = self.context["cutoffs"]
        unheard = Connectivity(connection_type="")
        shown = {
            "device": device,
            "connectivity": getattr(device, "connectivity", unheard),
            "status": device.status(cutoffs),
            "presence": device.current_presence(cutoffs),
        }
        return super().to_representation(shown)

    def get_revoked(self, shown: dict[str, Any]) -> bool:
        return shown["device"].revoked_at is not None

    def get_is_online(self, shown: dict[str, Any]) -> bool:
        return shown["status"] is Status.ONLINE


class PointAnswer(serializers.Serializer[Any]):
    timestamp = serializers.IntegerField(help_text="Epoch milliseconds.")
    value = serializers.FloatField()


class RecentMetricsAnswer(serializers.Serializer[Any]):
    device_uuid = serializers.UUIDField()
    metrics = serializers.DictField(child=PointAnswer(many=True), help_text="Oldest first.")


class DeviceView(APIView):
    @extend_schema(summary="Delete a device", responses={200: DeviceAnswer})
    def delete(self, request: Request, uuid: UUID) -> Response:
        """Delete the device and all its data; its credentials and its token become invalid."""
        person, device = administered_device(request, uuid)
        StrictSerializer(data=request.data).is_valid(raise_exception=True)
        credentials.delete_devices([device], by=person)
        return Response(DeviceAnswer({"device_uuid": uuid}).data)


class DeviceStatusView(APIView):
    @extend_schema(summary="Show a device's status", responses=DeviceStatusAnswer)
    def get(self, request: Request, uuid: UUID) -> Response:
        return status_response(device_for(request, uuid))


class RecentMetricsView(APIView):
    @extend_schema(
        summary="Show a device's live metrics",
        parameters=[RecentMetricsSerializer],
        responses=RecentMetricsAnswer,
    )
    def get(self, request: Request, uuid: UUID) -> Response:
        device = device_for(request, uuid)
        form = RecentMetricsSerializer(data=request.query_params)
        form.is_valid(raise_exception=True)
        wanted = form.validated_data.get("metric")
        names = [wanted] if wanted else ring_buffers.LIVE_METRICS
        points = ring_buffers.recent(device.pk, names, form.validated_data.get("limit"))
        if wanted:
            points.setdefault(wanted, [])
        return Response(RecentMetricsAnswer({"device_uuid": device.pk, "metrics": points}).data)


def status_response(device: Device) -> Response:
    context = {"cutoffs": current_cutoffs()}
    return Response(DeviceStatusAnswer(device, context=context).data)
