"""When a device was online, and its connections to the broker."""

from django_filters import ChoiceFilter, FilterSet
from drf_spectacular.utils import extend_schema, extend_schema_view

from devices.api.of_device import OfDeviceViewSet
from devices.models import BrokerSession, Presence, PresenceChange
from tenants.api.base.filters import MomentFilter
from tenants.api.base.serializers import RowSerializer


class PresenceChangeSerializer(RowSerializer[PresenceChange]):
    class Meta:
        model = PresenceChange
        fields = ["presence", "at", "reported_by", "reason"]


class PresenceFilters(FilterSet):
    presence = ChoiceFilter(choices=[(each.value, each.value) for each in Presence])
    since = MomentFilter(field_name="at", lookup_expr="gte")
    until = MomentFilter(field_name="at", lookup_expr="lt")


@extend_schema(tags=["Devices"])
@extend_schema_view(list=extend_schema(summary="List when a device came online or went offline"))
class PresenceViewSet(OfDeviceViewSet[PresenceChange]):
    queryset = PresenceChange.objects.none()
    serializer_class = PresenceChangeSerializer
    filterset_class = PresenceFilters
    ordering_fields = ("at",)
    ordering = "-at"


class SessionSerializer(RowSerializer[BrokerSession]):
    class Meta:
        model = BrokerSession
        fields = ["server_id", "client_id", "address", "started_at", "ended_at", "end_reason"]


@extend_schema(tags=["Devices"])
@extend_schema_view(list=extend_schema(summary="List a device's connections to the broker"))
class SessionViewSet(OfDeviceViewSet[BrokerSession]):
    """Open ones have no `ended_at`; of those that have ended the newest 20 are kept for a while."""

    queryset = BrokerSession.objects.none()
    serializer_class = SessionSerializer
    ordering_fields = ("started_at",)
    ordering = "-started_at"
