"""Limit how many connections a device may have at once; one more ends the oldest.

An agent has one, and two while it changes to a new credential. A copied credential has more, and
so has an attacker who opens many so that the server buffers what nobody reads.
"""

from collections.abc import Iterable
from typing import NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction

from devices.models import Device
from tenants.audit.coalescing import CoalescedEvents, Connecting, others_of
from tenants.audit.writer import PLATFORM, AuditEvent
from tenants.models import Action

# How many connections are ended at once.
_BATCH = 200

# Shared in this process by the tasks `connection limit` and `refused logins`.
limited_devices = CoalescedEvents(others=others_of)


class Surplus(NamedTuple):
    """A connection beyond its device's limit."""

    server: str
    client: int
    device: UUID
    address: str


def surplus() -> list[Surplus]:
    """Return the connections beyond the newest few that each device may have, oldest first."""
    with connection.cursor() as cursor:
        cursor.execute(_SURPLUS, [settings.DEVICE_MAX_CONNECTIONS, _BATCH])
        return [Surplus(*row) for row in cursor.fetchall()]


@transaction.atomic
def record_ended(ended: Iterable[Surplus]) -> None:
    """Record in the audit log that the platform ended these connections."""
    found = list(ended)
    rows = Device.objects.filter(pk__in={each.device for each in found})
    tenants = dict(rows.values_list("pk", "tenant"))
    limited_devices.record(
        (_kind(each, tenants[each.device]), _event(each, tenants[each.device]))
        for each in found
        if each.device in tenants
    )


def _kind(each: Surplus, tenant: UUID) -> Connecting:
    return Connecting(Action.BROKER_LIMITED, tenant, str(each.device), each.address, "")


def _event(each: Surplus, tenant: UUID) -> AuditEvent:
    return AuditEvent(
        Action.BROKER_LIMITED,
        tenant,
        PLATFORM,
        device=each.device,
        address=each.address,
        via="broker",
        detail={
            "server": each.server,
            "connection": each.client,
            "reason": f"the device had more than {settings.DEVICE_MAX_CONNECTIONS} connections",
        },
    )


_SURPLUS = """
    SELECT server_id, client_id, device_id, address FROM (
        SELECT *, row_number() OVER (PARTITION BY device_id ORDER BY started_at DESC, id DESC)
            AS place
        FROM devices_brokersession WHERE ended_at IS NULL
    ) AS live
    WHERE place > %s ORDER BY started_at LIMIT %s
"""
