"""How rows look to API clients and browsers. Times are epoch seconds, null where unknown."""

from datetime import datetime
from typing import Any

from devices.models import Command, Connectivity, Device
from devices.presence import Cutoffs, Status


def epoch(moment: datetime | None) -> float | None:
    return None if moment is None else round(moment.timestamp(), 3)


def status(device: Device, cutoffs: Cutoffs) -> dict[str, Any]:
    """Expects `connectivity` to be loaded with the device where many are shown."""
    connectivity: Connectivity | None = getattr(device, "connectivity", None)
    last_seen = connectivity.last_seen_online if connectivity else None
    state = cutoffs.status_of(last_seen)
    return {
        "success": True,
        "device_uuid": str(device.pk),
        "is_online": state is Status.ONLINE,
        "status": state.value,
        "connection_type": connectivity.connection_type if connectivity else "",
        "last_heartbeat": epoch(connectivity.last_heartbeat) if connectivity else None,
        "last_seen_online": epoch(last_seen),
        "agent_version": connectivity.agent_version if connectivity else "",
        "connection_info": connectivity.connection_info if connectivity else {},
    }


def command(row: Command) -> dict[str, Any]:
    return command_summary(row) | {"result": row.result}


def command_summary(row: Command) -> dict[str, Any]:
    """Without the result, which may be large: twenty of these stand in each snapshot."""
    return {
        "command_id": str(row.uuid),
        "device_uuid": str(row.device_id),
        "command": row.command,
        "parameters": row.parameters,
        "state": row.state,
        "created_at": epoch(row.created_at),
        "sent_at": epoch(row.sent_at),
        "finished_at": epoch(row.finished_at),
        "error": row.error or None,
    }
