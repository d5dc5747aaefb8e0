"""Represent rows for API clients and browsers. Times are epoch seconds, or null if unknown."""

from typing import Any

from devices.commands.rules.states import COMMAND_STATES
from devices.models import BulkCommand, Command, Connectivity, Device
from devices.presence.rules import Cutoffs, Status
from natsbridge.protocol import subjects
from tenants.api.representations import broker_addresses, epoch


def broker_access(device: Device) -> dict[str, Any]:
    """Return what an agent needs beside its credential to use the broker."""
    return broker_addresses() | {
        "inbox_prefix": subjects.device_inbox(device.pk),
        "subjects": subjects.device_subjects(device.tenant_id, device.pk),
    }


def status(device: Device, cutoffs: Cutoffs) -> dict[str, Any]:
    """Return a device's status. Load `connectivity` with the devices where there are many."""
    connectivity: Connectivity | None = getattr(device, "connectivity", None)
    last_seen = connectivity.last_seen_online if connectivity else None
    state, presence = device.status(cutoffs), device.current_presence(cutoffs)
    return {
        "success": True,
        "device_uuid": str(device.pk),
        "revoked": device.revoked_at is not None,
        "is_online": state is Status.ONLINE,
        "status": state.value,
        "connection_type": connectivity.connection_type if connectivity else "",
        "last_heartbeat": epoch(connectivity.newest_heartbeat) if connectivity else None,
        "last_heartbeat_by": connectivity.heartbeat_by if connectivity else None,
        "last_seen_online": epoch(last_seen),
        "presence": presence.presence,
        "presence_since": epoch(presence.since),
        "reported_by": presence.by,
        "unstable": bool(connectivity and connectivity.is_unstable),
        "agent_version": connectivity.agent_version if connectivity else "",
        "connection_info": connectivity.connection_info if connectivity else {},
    }


def command(row: Command) -> dict[str, Any]:
    return command_summary(row) | {"result": row.result, "result_cut_from": row.result_cut_from}


def command_summary(row: Command) -> dict[str, Any]:
    """Return a command without its result, which may be large."""
    return {
        "command_id": str(row.uuid),
        "device_uuid": str(row.device_id),
        "command": row.command,
        "parameters": row.parameters,
        "state": row.state,
        "created_at": epoch(row.created_at),
        "deadline": epoch(row.deadline),
        "sent_at": epoch(row.sent_at),
        "finished_at": epoch(row.finished_at),
        "error": row.error or None,
        "request_id": row.request_id or None,
    }


def bulk(row: BulkCommand, counts: dict[str, int], to_give_up: int) -> dict[str, Any]:
    """Return a bulk command. `counts` are its commands by state; `to_give_up` is how many were sent
    to devices that are offline now."""
    return {
        "bulk_id": str(row.uuid),
        "tenant_uuid": str(row.tenant_id),
        "command": row.command,
        "parameters": row.parameters,
        "target": row.target,
        "created_by": row.created_by.get_username() if row.created_by else None,
        "created_at": epoch(row.created_at),
        "deadline": epoch(row.deadline),
        "cancelled_at": epoch(row.cancelled_at),
        "retry_of": str(row.retry_of.uuid) if row.retry_of else None,
        "request_id": row.request_id or None,
        "total": sum(counts.values()),
        "left_out": row.left_out,
        "counts": counts,
        "open": sum(counts[state] for state in COMMAND_STATES.open),
        "to_give_up": to_give_up,
    }


def bulk_preview(words: str, by_status: dict[Status, int], left_out: dict[str, int]) -> Any:
    return {
        "target": words,
        "total": sum(by_status.values()),
        "by_status": {status.lower(): count for status, count in by_status.items()},
        "left_out": left_out,
    }
