"""Devices by the thousand, as rows."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.db import connection
from django.utils import timezone

from devices.models import Connectivity, Device, Presence
from tenants.models import Group

RECEIPTS = {"receipts": True}


def many_devices(group: Group, count: int) -> list[Device]:
    """All online, with agents that give receipts."""
    devices = Device.objects.bulk_create(
        Device(group=group, tenant=group.tenant, name=f"device-{number:04}")
        for number in range(count)
    )
    Connectivity.objects.bulk_create(
        Connectivity(
            device=device,
            last_seen_online=timezone.now(),
            presence=Presence.ONLINE,
            capabilities=RECEIPTS,
            capabilities_at=timezone.now(),
        )
        for device in devices
    )
    # As autovacuum does for rows that are committed: planned for empty tables, a query over
    # thousands of rows may take minutes.
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE devices_device, devices_connectivity")
    return devices


def some_offline(devices: Sequence[Device], count: int) -> list[Device]:
    """The first `count` of them, from now on."""
    gone = list(devices[:count])
    Connectivity.objects.filter(device__in=gone).update(
        presence=Presence.OFFLINE, last_seen_online=timezone.now() - timedelta(hours=1)
    )
    return gone


def online(device: Device, capabilities: dict[str, Any] = RECEIPTS) -> None:
    """From now on."""
    Connectivity.objects.update_or_create(
        device=device,
        defaults={
            "presence": Presence.ONLINE,
            "last_seen_online": timezone.now(),
            "capabilities": capabilities,
            "capabilities_at": timezone.now(),
        },
    )
