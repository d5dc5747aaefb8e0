"""Change several things that people record about a device, all of them or none."""

from collections.abc import Collection, Mapping

from django.db import transaction

from devices.inventory.custom_fields import set_values
from devices.inventory.details import move_device, rename_device
from devices.inventory.tags import set_tags
from devices.models import Device
from tenants.models import Group, User


@transaction.atomic
def change_device(
    device: Device,
    *,
    name: str | None = None,
    group: Group | None = None,
    tags: Collection[str] | None = None,
    values: Mapping[str, object] | None = None,
    by: User | None,
) -> None:
    """Rename and move the device, put these tags on it, and set these values of custom fields.

    Raise DeviceCannotMove, or InventoryRefused.
    """
    # First, since it locks the fields before the device.
    if values is not None:
        set_values(device, values, by=by)
    if tags is not None:
        set_tags(device, tags, by=by)
    if name is not None:
        rename_device(device, name, by=by)
    if group is not None:
        move_device(device, group, by=by)
