"""Names of devices for the apps below, which do not know this app's models."""

from collections.abc import Collection, Mapping
from uuid import UUID

from devices.models import Device
from tenants.throttle.refused_tokens import Principal


def device_names(devices: Collection[UUID]) -> Mapping[UUID, str]:
    """Return the names of those devices that exist."""
    return dict(Device.objects.filter(pk__in=devices).values_list("pk", "name"))


def device_named(uuid: UUID | None) -> Principal | None:
    """Return the device that a caller with a wrong token claims to be, None if there is none."""
    found = Device.objects.filter(pk=uuid).first() if uuid else None
    if found is None:
        return None
    return Principal(f"device {uuid}", "", found.tenant_id, uuid)
