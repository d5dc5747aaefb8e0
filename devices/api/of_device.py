"""The base of the resources below one device's address."""

from typing import Any, Generic, TypeVar
from uuid import UUID

from django.db.models import Model
from rest_framework.exceptions import NotFound
from rest_framework.request import Request

from devices.models import Device
from tenants.api.base.viewsets import ListViewSet

Row = TypeVar("Row", bound=Model)

ADDRESS = "devices/<uuid:device>"


def visible_device(request: Request, uuid: UUID) -> Device:
    """Return the device. Raise NotFound if the caller may not know of it."""
    found = Device.objects.visible_to(request.user).filter(pk=uuid).first()
    if found is None:
        raise NotFound(f"There is no device {uuid}.")
    return found


class OfDeviceViewSet(ListViewSet[Row], Generic[Row]):
    """List the rows of the device in the address, the newest first."""

    # For the document: its addresses have a device, not a row.
    lookup_field = "device"

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        self.device = visible_device(request, kwargs["device"])

    def get_queryset(self) -> Any:
        return super().get_queryset().filter(device=self.device)
