"""Who may call what: each endpoint and method by each caller, with the status that answers.

The outsider is an admin of another tenant; the sibling another device of the same group. Staff may
manage the platform and are in no tenant. Everybody's token has the role admin.
"""

from typing import Any

CALLERS = (
    *("nobody", "device", "sibling", "viewer", "operator", "admin"),
    *("outsider", "staff", "superuser"),
)

_MATRIX = """
nob dev sib vie ope adm out sta sup
401 401 401 200 200 200 200 200 200  GET /api/
401 401 401 403 403 200 200 200 200  GET /api/audit
401 401 401 403 403 200 404 200 200  GET /api/audit/{audit}
401 401 401 200 200 200 200 200 200  GET /api/bulk-commands
401 401 401 403 202 202 404 403 403  POST /api/bulk-commands
401 401 401 403 200 200 404 403 403  POST /api/bulk-commands/preview
401 401 401 200 200 200 404 404 200  GET /api/bulk-commands/{bulk-commands}
401 401 401 403 200 200 404 404 403  POST /api/bulk-commands/{bulk-commands}/cancel
401 401 401 200 200 200 404 404 200  GET /api/bulk-commands/{bulk-commands}/results
401 401 401 403 409 409 404 404 403  POST /api/bulk-commands/{bulk-commands}/retry
401 401 401 200 200 200 200 200 200  GET /api/commands
401 401 401 403 202 202 400 403 403  POST /api/commands
401 401 401 200 200 200 404 404 200  GET /api/commands/{commands}
401 401 401 403 200 200 404 404 403  POST /api/commands/{commands}/cancel
401 401 401 403 409 409 404 404 403  POST /api/commands/{commands}/retry
401 401 401 200 200 200 200 200 200  GET /api/custom-fields
401 401 401 403 403 201 400 403 403  POST /api/custom-fields
401 401 401 403 403 204 404 404 403  DELETE /api/custom-fields/{custom-fields}
401 401 401 200 200 200 404 404 200  GET /api/custom-fields/{custom-fields}
401 401 401 403 403 200 404 404 403  PATCH /api/custom-fields/{custom-fields}
401 401 401 403 403 403 403 200 200  GET /api/dead-letters
401 401 401 403 403 403 403 400 400  POST /api/dead-letters/discard
401 401 401 403 403 403 403 400 400  POST /api/dead-letters/replay
401 401 401 403 403 403 403 200 200  GET /api/dead-letters/{dead-letters}
401 401 401 403 403 403 403 200 200  POST /api/dead-letters/{dead-letters}/discard
401 401 401 403 403 403 403 202 202  POST /api/dead-letters/{dead-letters}/replay
401 401 401 403 403 200 200 403 403  GET /api/device-imports
401 401 401 403 403 201 400 403 403  POST /api/device-imports
401 401 401 403 403 200 404 404 403  GET /api/device-imports/{device-imports}
401 401 401 403 403 200 404 404 403  POST /api/device-imports/{device-imports}/undo
401 200 404 200 200 200 404 404 200  GET /api/device/{device}/tenant
401 401 401 200 200 200 200 200 200  GET /api/devices
401 401 401 403 403 204 404 404 403  DELETE /api/devices/{devices}
401 401 401 200 200 200 404 404 200  GET /api/devices/{devices}
401 401 401 403 200 200 404 404 403  PATCH /api/devices/{devices}
401 401 401 403 403 200 404 404 403  POST /api/devices/{devices}/archive
401 401 401 200 200 200 404 404 200  GET /api/devices/{devices}/metrics
401 401 401 200 200 200 404 404 200  GET /api/devices/{devices}/notes
401 401 401 403 201 201 404 403 403  POST /api/devices/{devices}/notes
401 401 401 403 403 204 404 404 403  DELETE /api/devices/{devices}/notes/{notes}
401 401 401 200 200 200 404 404 200  GET /api/devices/{devices}/notes/{notes}
401 401 401 200 200 200 404 404 200  GET /api/devices/{devices}/presence
401 401 401 200 200 200 404 404 200  GET /api/devices/{devices}/reports
401 401 401 200 200 200 404 404 200  GET /api/devices/{devices}/sessions
401 401 401 403 403 200 404 404 403  POST /api/devices/{devices}/unarchive
200 200 200 200 200 200 200 200 200  GET /api/docs/
401 401 401 403 403 200 200 403 403  GET /api/enrolment-keys
401 401 401 403 403 201 400 403 403  POST /api/enrolment-keys
401 401 401 403 403 204 404 404 403  DELETE /api/enrolment-keys/{enrolment-keys}
401 401 401 403 403 200 404 404 403  GET /api/enrolment-keys/{enrolment-keys}
401 401 401 403 403 200 200 403 403  GET /api/exports
401 401 401 403 403 201 400 403 403  POST /api/exports
401 401 401 403 403 200 404 404 403  GET /api/exports/{exports}
401 401 401 403 403 200 404 404 403  GET /api/exports/{exports}/download
401 401 401 200 200 200 200 200 200  GET /api/groups
401 401 401 403 403 201 400 403 403  POST /api/groups
401 401 401 403 403 409 404 404 403  DELETE /api/groups/{groups}
401 401 401 200 200 200 404 404 200  GET /api/groups/{groups}
401 401 401 403 403 200 404 404 403  PATCH /api/groups/{groups}
401 401 401 403 403 200 200 200 200  GET /api/memberships
401 401 401 403 403 201 400 403 201  POST /api/memberships
401 401 401 403 403 204 404 403 204  DELETE /api/memberships/{memberships}
401 401 401 403 403 200 404 200 200  GET /api/memberships/{memberships}
401 401 401 403 403 200 404 403 200  PATCH /api/memberships/{memberships}
401 401 401 200 200 200 200 200 200  GET /api/migrations
401 401 401 200 200 200 404 404 200  GET /api/migrations/{migrations}
401 401 401 403 403 200 404 404 403  POST /api/migrations/{migrations}/complete
401 401 401 403 403 200 404 404 403  POST /api/migrations/{migrations}/reopen
401 401 401 403 403 200 404 404 403  POST /api/migrations/{migrations}/tokens
401 401 401 403 403 200 404 404 403  POST /api/migrations/{migrations}/undo
401 403 403 200 200 200 200 200 200  GET /api/nats/agent-status
201 201 201 201 201 201 201 201 201  POST /api/nats/agent/register
401 200 404 200 200 200 404 404 200  GET /api/nats/agent/{agent}/config
401 403 403 403 202 202 404 404 403  POST /api/nats/agent/{agent}/restart
401 200 404 403 403 200 404 404 403  GET /api/nats/agent/{agent}/upgrade
401 200 404 403 403 200 404 404 403  POST /api/nats/agent/{agent}/upgrade
401 404 404 200 200 200 404 404 200  GET /api/nats/command/{command}
401 403 403 403 200 200 404 404 403  POST /api/nats/command/{command}/cancel
401 403 403 403 409 409 404 404 403  POST /api/nats/command/{command}/retry
401 403 403 403 202 202 404 404 403  POST /api/nats/commands
401 403 403 403 200 200 404 404 403  POST /api/nats/commands/preview
401 403 403 200 200 200 404 404 200  GET /api/nats/commands/{commands}
401 403 403 403 200 200 404 404 403  POST /api/nats/commands/{commands}/cancel
401 403 403 403 409 409 404 404 403  POST /api/nats/commands/{commands}/retry
401 403 403 403 403 403 403 200 200  GET /api/nats/connections
401 403 403 403 403 403 403 200 200  GET /api/nats/debug/subjects
401 403 403 403 403 200 404 404 403  DELETE /api/nats/device/{device}
401 403 403 403 202 202 404 404 403  POST /api/nats/device/{device}/command
401 200 404 403 403 403 404 404 403  GET /api/nats/device/{device}/credentials
401 403 403 403 403 200 404 404 403  GET /api/nats/device/{device}/credentials/history
401 200 404 403 403 403 404 404 403  POST /api/nats/device/{device}/heartbeat
401 200 404 200 200 200 404 404 200  GET /api/nats/device/{device}/metrics/recent
401 403 403 403 403 200 404 404 403  POST /api/nats/device/{device}/reinstate
401 403 403 403 403 200 404 404 403  POST /api/nats/device/{device}/revoke
401 403 403 403 403 202 404 404 403  POST /api/nats/device/{device}/rotate
401 200 404 200 200 200 404 404 200  GET /api/nats/device/{device}/status
401 200 404 200 200 200 404 404 200  GET /api/nats/device/{device}/tenant
200 200 200 200 200 200 200 200 200  GET /api/nats/health
401 403 403 403 403 403 403 200 200  GET /api/nats/metrics
401 403 403 403 403 403 403 200 200  POST /api/nats/service/start
401 403 403 403 403 403 403 200 200  GET /api/nats/service/status
401 403 403 403 403 403 403 200 200  POST /api/nats/service/stop
401 403 403 403 403 200 404 200 200  GET /api/nats/tenant/{tenant}
401 403 403 403 202 202 404 404 403  POST /api/nats/tenant/{tenant}/agents/broadcast
401 403 403 403 403 200 404 200 200  GET /api/nats/tenant/{tenant}/audit
401 403 403 403 403 200 404 200 200  GET /api/nats/tenant/{tenant}/audit/export
401 403 403 403 403 200 404 200 200  GET /api/nats/tenant/{tenant}/credentials
401 403 403 403 403 201 404 201 201  POST /api/nats/tenant/{tenant}/credentials
401 403 403 403 403 201 404 201 201  POST /api/nats/tenant/{tenant}/credentials/rotate
401 403 403 403 403 200 404 200 200  POST /api/nats/tenant/{tenant}/credentials/{credentials}/revoke
401 403 403 200 200 200 404 404 200  GET /api/nats/tenant/{tenant}/devices
401 403 403 403 403 403 404 200 200  PATCH /api/nats/tenant/{tenant}/limits
401 403 403 403 403 403 404 200 200  PUT /api/nats/tenant/{tenant}/limits
401 403 403 200 200 200 404 404 200  GET /api/nats/tenant/{tenant}/metrics
401 403 403 403 403 403 404 200 200  POST /api/nats/tenant/{tenant}/resume
401 403 403 403 403 202 404 202 202  POST /api/nats/tenant/{tenant}/rotate-keys
401 403 403 403 403 403 404 200 200  POST /api/nats/tenant/{tenant}/suspend
401 401 401 200 200 200 200 200 200  GET /api/organisations
401 401 401 403 403 201 400 403 403  POST /api/organisations
401 401 401 403 403 409 404 404 403  DELETE /api/organisations/{organisations}
401 401 401 200 200 200 404 404 200  GET /api/organisations/{organisations}
401 401 401 403 403 200 404 404 403  PATCH /api/organisations/{organisations}
200 200 200 200 200 200 200 200 200  GET /api/schema/
401 401 401 403 403 403 403 200 200  GET /api/subscribers
401 401 401 403 403 403 403 200 200  GET /api/subscribers/{subscribers}
401 401 401 200 200 200 200 200 200  GET /api/tags
401 401 401 403 403 201 400 403 403  POST /api/tags
401 401 401 403 403 204 404 404 403  DELETE /api/tags/{tags}
401 401 401 200 200 200 404 404 200  GET /api/tags/{tags}
401 401 401 403 403 200 404 404 403  PATCH /api/tags/{tags}
401 401 401 200 200 200 200 200 200  GET /api/tenants
401 401 401 403 403 403 403 201 201  POST /api/tenants
401 401 401 200 200 200 404 200 200  GET /api/tenants/{tenants}
401 401 401 403 403 200 404 200 200  PATCH /api/tenants/{tenants}
401 401 401 200 200 200 200 200 200  GET /api/tokens
401 401 401 201 201 201 201 201 201  POST /api/tokens
401 401 401 404 404 204 404 404 404  DELETE /api/tokens/{tokens}
401 401 401 404 404 200 404 404 404  GET /api/tokens/{tokens}
"""

_COMMAND = {"command": "ping"}
_REASON = {"reason": "a test"}

# What is sent. The names in braces are ids of the world.
BODIES: dict[str, dict[str, Any]] = {
    "POST /api/bulk-commands": {**_COMMAND, "group": "{groups}"},
    "POST /api/bulk-commands/preview": {**_COMMAND, "group": "{groups}"},
    "POST /api/commands": {**_COMMAND, "device": "{devices}"},
    "POST /api/device-imports": {
        "tenant": "{tenant}",
        "group": "{groups}",
        "devices": [{"uuid": "00000000-0000-4000-8000-000000000001", "name": "old"}],
    },
    "POST /api/exports": {"tenant": "{tenant}"},
    "POST /api/migrations/{migrations}/complete": {"despite_remaining": True},
    "POST /api/groups": {"organisation": "{organisations}", "name": "New"},
    "POST /api/organisations": {"tenant": "{tenant}", "name": "New"},
    "PATCH /api/groups/{groups}": {"name": "New"},
    "PATCH /api/devices/{devices}": {"name": "New"},
    "POST /api/devices/{devices}/notes": {"text": "New"},
    "POST /api/tags": {"tenant": "{tenant}", "name": "New"},
    "PATCH /api/tags/{tags}": {"name": "New"},
    "POST /api/custom-fields": {"tenant": "{tenant}", "name": "New", "type": "text"},
    "PATCH /api/custom-fields/{custom-fields}": {"name": "New"},
    "PATCH /api/organisations/{organisations}": {"name": "New"},
    "POST /api/enrolment-keys": {"group": "{groups}", "name": "new"},
    "POST /api/memberships": {"tenant": "{tenant}", "username": "newcomer", "role": "viewer"},
    "PATCH /api/memberships/{memberships}": {"role": "operator"},
    "POST /api/tenants": {"name": "New"},
    "PATCH /api/tenants/{tenants}": {"name": "New"},
    "POST /api/tokens": {"name": "new", "role": "viewer", "expires_at": None},
    "POST /api/nats/agent/register": {
        "groupuuid": "{groups}",
        "devicename": "new",
        "enrollment_key": "{enrolment_key}",
    },
    "POST /api/nats/commands": {**_COMMAND, "group": "{groups}"},
    "POST /api/nats/commands/preview": {**_COMMAND, "group": "{groups}"},
    "POST /api/nats/device/{device}/command": _COMMAND,
    "POST /api/nats/device/{device}/revoke": _REASON,
    "POST /api/nats/tenant/{tenant}/agents/broadcast": _COMMAND,
    "POST /api/nats/tenant/{tenant}/suspend": _REASON,
    "POST /api/nats/tenant/{tenant}/credentials/{credentials}/revoke": _REASON,
}


def read(matrix: str) -> dict[str, dict[str, int]]:
    """Return the statuses of each endpoint, by caller."""
    _, *rows = (line.split() for line in matrix.strip().splitlines())
    return {
        f"{method} {path}": dict(zip(CALLERS, map(int, statuses), strict=True))
        for *statuses, method, path in rows
    }


def row(endpoint: str, statuses: list[int]) -> str:
    """Return the line of the matrix."""
    return f"{' '.join(map(str, statuses))}  {endpoint}"


MATRIX = read(_MATRIX)
