"""Record a heartbeat that a device sent over HTTP, not over the broker.

It shows that the device is alive, and nothing of its connection: what it stores decides neither
presence nor which commands are delivered. It names no session, since heartbeats over NATS compare
theirs, and claims no receipts, since those hold for a connection to the broker.
"""

from datetime import datetime

from django.db import transaction
from django.utils import timezone

from devices.live import frames
from devices.models import Connectivity, Device
from devices.presence.heartbeats import limited
from natsbridge.protocol import envelope
from natsbridge.protocol.kinds import Heartbeat


@transaction.atomic
def record_http_heartbeat(device: Device, body: Heartbeat) -> datetime:
    """Record the heartbeat, and return when it came. A part that it leaves out is kept."""
    rows = Connectivity.objects.select_for_update()
    # Without a row the device's type is not known; only the broker makes it `nats`.
    known, _ = rows.get_or_create(device=device, defaults={"connection_type": ""})
    now = known.http_heartbeat_at = timezone.now()
    known.agent_version = body.agent_version or known.agent_version
    own_clock = envelope.timestamp(body.timestamp, body.timestamp_ms)
    if own_clock:
        known.clock_offset_seconds = (own_clock - now).total_seconds()
    parts = {"system_info": body.system_info, "status": body.status}
    for name, part in parts.items():
        known.connection_info.setdefault(name, {})
        if part is not None:
            known.connection_info[name] = limited(part)
    # What the agent said over the connection on which it gets commands counts for more.
    if body.capabilities is not None and known.capabilities_at is None:
        claimed = {name: each for name, each in body.capabilities.items() if name != "receipts"}
        known.capabilities = limited(claimed)
    known.save(
        update_fields=[
            "http_heartbeat_at",
            "agent_version",
            "clock_offset_seconds",
            "connection_info",
            "capabilities",
        ]
    )
    transaction.on_commit(lambda: frames.push_connectivity([device.pk]))
    return now
