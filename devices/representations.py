"""Represent rows for API clients and browsers. Times are epoch seconds, or null if unknown."""

from typing import Any

from devices.commands.rules.states import COMMAND_STATES
from devices.models import BulkCommand, Command
from devices.presence.rules import Status
from tenants.api.representations import epoch


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
