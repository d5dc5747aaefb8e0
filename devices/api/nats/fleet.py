"""Many devices at once: the status of each that a person may see."""

from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework.generics import ListAPIView
from rest_framework.request import Request

from devices.api.nats.devices import DeviceStatusAnswer
from devices.filters.devices import DeviceFilters
from devices.models import Device
from devices.models.device import DeviceQuerySet
from devices.presence.coverage import current_cutoffs
from tenants.api.access import visible_tenant
from tenants.api.base.filters import FilterSetBackend, Ordering, refuse_unknown_parameters
from tenants.api.base.pagination import CursorPages
from tenants.api.base.permissions import IsPerson, person_of

TAG = "Monitoring"


class AgentStatusView(ListAPIView[Device]):
    """List devices with their status, as a device's own `status` shows it."""

    permission_classes = [IsPerson]
    pagination_class = CursorPages
    filter_backends = [FilterSetBackend, Ordering]
    filterset_class = DeviceFilters
    serializer_class = DeviceStatusAnswer
    queryset = Device.objects.none()
    ordering_fields = ("name", "created_at", "uuid")
    ordering = "name"

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        own = {"limit", "cursor", "ordering"}
        refuse_unknown_parameters(request, own | FilterSetBackend().parameters(request, self))

    @extend_schema(summary="The status of all devices", tags=[TAG])
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Any:
        return super().get(request, *args, **kwargs)

    def get_queryset(self) -> DeviceQuerySet:
        visible = Device.objects.visible_to(person_of(self.request))
        return visible.select_related("connectivity").defer("hardware_info")

    def get_serializer_context(self) -> dict[str, Any]:
        return {**super().get_serializer_context(), "cutoffs": current_cutoffs()}


class TenantDevicesView(AgentStatusView):
    @extend_schema(summary="The status of a tenant's devices", tags=[TAG])
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Any:
        return super().get(request, *args, **kwargs)

    def get_queryset(self) -> DeviceQuerySet:
        uuid: UUID = self.kwargs["uuid"]
        return super().get_queryset().filter(tenant=visible_tenant(self.request, uuid))
