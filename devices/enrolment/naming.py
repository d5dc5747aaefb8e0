"""What devices are called."""

from collections.abc import Collection, Mapping
from uuid import UUID

from devices.models import Device


def device_names(devices: Collection[UUID]) -> Mapping[UUID, str]:
    """Of those that there are."""
    return dict(Device.objects.filter(pk__in=devices).values_list("pk", "name"))
