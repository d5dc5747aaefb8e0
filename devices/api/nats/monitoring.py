"""Figures of the platform and of a tenant, each for a constant number of queries."""

from typing import Any
from uuid import UUID

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from devices.api.nats.broker import SubjectsAnswer
from devices.presence.counts import DeviceCounts, count_devices, open_connections
from natsbridge.protocol import subjects
from natsbridge.subscriber.status import service_state
from tenants.api.access import visible_tenant
from tenants.api.base.fields import EpochField
from tenants.api.base.permissions import IsStaff, person_of
from tenants.models import Tenant

TAG = "Monitoring"
EXAMPLES = 10
NO_STORE = {"Cache-Control": "no-store"}
OF_NATS = "Of the devices whose connection type is nats: those that are"


class ConnectionMetricsAnswer(serializers.Serializer[Any]):
    subscribers = serializers.IntegerField(help_text="Subscribers that are running.")
    is_connected = serializers.BooleanField(help_text="One of them is connected to the broker.")
    connections = serializers.IntegerField(help_text="Open connections of devices to the broker.")
    devices = serializers.IntegerField(help_text="Devices that have one.")


class TypeCountsAnswer(serializers.Serializer[DeviceCounts]):
    total_devices = serializers.IntegerField(source="total")
    online_devices = serializers.IntegerField(source="online")
    stale_devices = serializers.IntegerField(source="stale")
    offline_devices = serializers.IntegerField(source="offline")
    unknown_devices = serializers.IntegerField(source="unknown")


class NatsStatsAnswer(serializers.Serializer[DeviceCounts]):
    total_nats_devices = serializers.IntegerField(source="total")
    online_nats_devices = serializers.IntegerField(source="online")
    stale_nats_devices = serializers.IntegerField(source="stale")
    recent_heartbeats = serializers.IntegerField(
        source="heartbeats_last_minute",
        help_text="Devices whose last heartbeat came within the last minute.",
    )


class TenantTotalsAnswer(serializers.Serializer[Any]):
    tenant_uuid = serializers.UUIDField(source="tenant.pk")
    tenant_name = serializers.CharField(source="tenant.name")
    total_devices = serializers.IntegerField(source="counts.total")
    online_devices = serializers.IntegerField(source="counts.online")


class MetricsAnswer(serializers.Serializer[Any]):
    timestamp = EpochField()
    connection_metrics = ConnectionMetricsAnswer()
    connectivity_stats = serializers.DictField(
        source="counts.by_type",
        child=TypeCountsAnswer(),
        help_text="By connection type: nats, node-red; unknown for devices never heard of.",
    )
    nats_stats = NatsStatsAnswer(source="counts.nats")
    tenant_metrics = TenantTotalsAnswer(many=True, source="tenants")


class DeviceStatsAnswer(serializers.Serializer[DeviceCounts]):
    """Every device has one status: online, offline, stale or unknown."""

    total_devices = serializers.IntegerField(source="total", help_text="But for archived ones.")
    nats_devices = serializers.IntegerField(
        source="nats.total", help_text="Devices whose connection type is nats."
    )
    online_devices = serializers.IntegerField(source="online")
    offline_devices = serializers.IntegerField(source="offline")
    stale_devices = serializers.IntegerField(source="stale")
    node_red_devices = serializers.IntegerField(
        source="node_red.total", help_text="Devices whose connection type is node-red."
    )
    unknown_devices = serializers.IntegerField(
        source="unknown", help_text="Devices whose status is unknown, as no subscriber listens."
    )


class ConnectionHealthAnswer(serializers.Serializer[DeviceCounts]):
    healthy_connections = serializers.IntegerField(source="online", help_text=f"{OF_NATS} online.")
    stale_connections = serializers.IntegerField(source="stale", help_text=f"{OF_NATS} stale.")
    failed_connections = serializers.IntegerField(source="offline", help_text=f"{OF_NATS} offline.")


class RecentActivityAnswer(serializers.Serializer[DeviceCounts]):
    heartbeats_last_minute = serializers.IntegerField(
        help_text="Devices whose last heartbeat came within the last minute."
    )
    heartbeats_last_hour = serializers.IntegerField(
        help_text="Devices whose last heartbeat came within the last hour."
    )
    last_activity = EpochField(
        allow_null=True, help_text="When a device of the tenant was last heard."
    )


class TenantMetricsAnswer(serializers.Serializer[Any]):
    tenant_uuid = serializers.UUIDField(source="tenant.pk")
    tenant_name = serializers.CharField(source="tenant.name")
    timestamp = EpochField()
    device_stats = DeviceStatsAnswer(source="counts")
    connection_health = ConnectionHealthAnswer(source="counts.nats")
    recent_activity = RecentActivityAnswer(source="counts")


class TenantConnectionAnswer(serializers.Serializer[Any]):
    tenant_uuid = serializers.UUIDField(source="tenant.pk")
    tenant_name = serializers.CharField(source="tenant.name")
    is_connected = serializers.SerializerMethodField(
        help_text="A subscriber is connected, and the broker accepts the tenant's devices."
    )
    device_count = serializers.IntegerField(source="counts.total")
    has_jetstream = serializers.SerializerMethodField(
        help_text="The tenant's account and its stream exist at the broker."
    )

    def get_is_connected(self, shown: dict[str, Any]) -> bool:
        accepted = shown["tenant"].suspended_at is None and self.get_has_jetstream(shown)
        return accepted and shown["served"]

    def get_has_jetstream(self, shown: dict[str, Any]) -> bool:
        account = getattr(shown["tenant"], "broker_account", None)
        return account is not None and account.provisioned_at is not None


class ConnectionsAnswer(serializers.Serializer[Any]):
    timestamp = EpochField()
    total_connections = serializers.IntegerField(help_text="As many as `connections` has.")
    connections = TenantConnectionAnswer(many=True, help_text="One for each tenant, by name.")


class WildcardsAnswer(serializers.Serializer[Any]):
    device = serializers.CharField(help_text="All messages of the device.")
    tenant_devices = serializers.CharField(help_text="All messages of all devices of the tenant.")
    tenant = serializers.CharField(help_text="All messages of the tenant.")


class SubjectExampleAnswer(serializers.Serializer[Any]):
    """The subjects of one device, which is shown as its UUID and its tenant's."""

    device_uuid = serializers.UUIDField()
    tenant_uuid = serializers.UUIDField()
    subjects = SubjectsAnswer()
    wildcards = WildcardsAnswer()

    def to_representation(self, row: tuple[UUID, UUID]) -> dict[str, Any]:
        tenant, device = row
        shown = {
            "device_uuid": device,
            "tenant_uuid": tenant,
            "subjects": subjects.device_subjects(tenant, device),
            "wildcards": subjects.device_wildcards(tenant, device),
        }
        return super().to_representation(shown)


class SubjectsOverviewAnswer(serializers.Serializer[Any]):
    timestamp = EpochField()
    subject_pattern = serializers.CharField()
    examples = SubjectExampleAnswer(many=True, help_text=f"Of {EXAMPLES} devices at most.")


class MetricsView(APIView):
    permission_classes = [IsStaff]

    @extend_schema(summary="Figures of the platform", tags=[TAG], responses=MetricsAnswer)
    def get(self, request: Request) -> Response:
        """Count devices by connection type, by tenant and by status. For staff."""
        tenants = Tenant.objects.managed_by(person_of(request))
        counts, service = count_devices(tenants), service_state()
        by_tenant = counts.by_tenant
        answer = {
            "timestamp": timezone.now(),
            "connection_metrics": {
                "subscribers": service.running,
                "is_connected": service.connected,
                **open_connections()._asdict(),
            },
            "counts": counts,
            "tenants": [{"tenant": each, "counts": by_tenant[each.pk]} for each in tenants],
        }
        return Response(MetricsAnswer(answer).data, headers=NO_STORE)


class TenantMetricsView(APIView):
    @extend_schema(summary="Figures of a tenant", tags=[TAG], responses=TenantMetricsAnswer)
    def get(self, request: Request, uuid: UUID) -> Response:
        """Count the tenant's devices by connection type, status and last heartbeat."""
        tenant = visible_tenant(request, uuid)
        tenants = Tenant.objects.visible_to(person_of(request)).filter(pk=uuid)
        answer = {"tenant": tenant, "timestamp": timezone.now(), "counts": count_devices(tenants)}
        return Response(TenantMetricsAnswer(answer).data, headers=NO_STORE)


class ConnectionsView(APIView):
    permission_classes = [IsStaff]

    @extend_schema(
        summary="The tenants' connections to the broker", tags=[TAG], responses=ConnectionsAnswer
    )
    def get(self, request: Request) -> Response:
        """Say of each tenant whether its devices can reach the platform. For staff.

        The platform has one connection for all tenants, each of which has an account of its own at
        the broker.
        """
        tenants = Tenant.objects.managed_by(person_of(request)).select_related("broker_account")
        by_tenant, service = count_devices(tenants).by_tenant, service_state()
        shown = [
            {"tenant": each, "counts": by_tenant[each.pk], "served": service.connected}
            for each in tenants
        ]
        answer = {
            "timestamp": timezone.now(),
            "total_connections": len(shown),
            "connections": shown,
        }
        return Response(ConnectionsAnswer(answer).data, headers=NO_STORE)


class SubjectsView(APIView):
    permission_classes = [IsStaff]

    @extend_schema(summary="How subjects are built", tags=[TAG], responses=SubjectsOverviewAnswer)
    def get(self, request: Request) -> Response:
        """Return the pattern of subjects, with the first devices as examples. For staff."""
        tenants = Tenant.objects.managed_by(person_of(request)).exclude(devices=None)
        devices = tenants.order_by("name", "devices__name", "devices__pk")
        answer = {
            "timestamp": timezone.now(),
            "subject_pattern": subjects.DEVICE_PATTERN,
            "examples": devices.values_list("pk", "devices__pk")[:EXAMPLES],
        }
        return Response(SubjectsOverviewAnswer(answer).data, headers=NO_STORE)
