"""Rename a device, and move it within its tenant."""

from typing import Any

from django.db import transaction

from devices.errors import DeviceCannotMove
from devices.live import frames
from devices.models import Device
from tenants.audit.writer import Actor, record_action
from tenants.models import Action, Group, User


@transaction.atomic
def rename_device(device: Device, name: str, *, by: User | None) -> None:
    known = Device.objects.select_for_update(of=("self",)).get(pk=device.pk)
    device.name = name
    if known.name == name:
        return
    device.save(update_fields=["name"])
    audit_device(Action.DEVICE_RENAMED, known, by, name={"from": known.name, "to": name})
    push_after_commit(device)


@transaction.atomic
def move_device(device: Device, group: Group, *, by: User | None) -> None:
    """Move a device to another group of its tenant. Raise DeviceCannotMove."""
    if group.tenant_id != device.tenant_id:
        raise DeviceCannotMove(
            "A device stays within its tenant: its credentials are those of the tenant's account. "
            "Register it again in the other tenant."
        )
    known = Device.objects.select_related("group").select_for_update(of=("self",)).get(pk=device.pk)
    device.group = group
    if known.group_id == group.pk:
        return
    device.save(update_fields=["group"])
    moved = {"from": known.group.name, "to": group.name}
    audit_device(Action.DEVICE_MOVED, device, by, group=moved)
    push_after_commit(device)


def audit_device(action: Action, device: Device, by: User | Actor | None, **detail: Any) -> None:
    """Record what happened to the device, in the caller's transaction."""
    record_action(
        action,
        tenant=device.tenant_id,
        by=by,
        device=device.pk,
        target=f"device {device.name}",
        detail=detail,
    )


def push_after_commit(device: Device) -> None:
    """Push to open pages that what people record about the device has changed."""
    transaction.on_commit(lambda: frames.push_details([device.pk]))
