"""Requests with which an admin of another tenant tries to learn or change what is not theirs.

Each names a thing of the other tenant in a field, a filter or the address. The names in braces are
ids of the world of the permission matrix; `{own_tenant}` and `{own_device}` are the attacker's.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Foreign(NamedTuple):
    endpoint: str
    body: Mapping[str, Any] = {}


_PING = {"command": "ping"}
_DEVICE = {"uuid": "00000000-0000-4000-8000-000000000002", "name": "theirs"}
_TARGETS: tuple[dict[str, Any], ...] = (
    {"group": "{groups}"},
    {"organisation": "{organisations}"},
    {"devices": ["{devices}"]},
    {"filter": {"tenant": "{tenant}"}},
    {"filter": {"group": "{groups}"}},
    {"filter": {"organisation": "{organisations}"}},
    {"filter": {"tag": ["{tags}"]}},
)

FIELDS = (
    *(
        Foreign(f"POST {address}{suffix}", {**_PING, **target})
        for address in ("/api/bulk-commands", "/api/nats/commands")
        for suffix in ("", "/preview")
        for target in _TARGETS
    ),
    Foreign("POST /api/commands", {**_PING, "device": "{devices}"}),
    Foreign("POST /api/organisations", {"tenant": "{tenant}", "name": "x"}),
    Foreign("POST /api/groups", {"organisation": "{organisations}", "name": "x"}),
    Foreign("POST /api/enrolment-keys", {"group": "{groups}", "name": "x"}),
    Foreign(
        "POST /api/memberships", {"tenant": "{tenant}", "username": "outsider", "role": "admin"}
    ),
    Foreign("POST /api/tags", {"tenant": "{tenant}", "name": "x"}),
    Foreign("POST /api/custom-fields", {"tenant": "{tenant}", "name": "x", "type": "text"}),
    Foreign("PATCH /api/devices/{own_device}", {"group": "{groups}"}),
    Foreign("PATCH /api/devices/{own_device}", {"tags": ["{tags}"]}),
    Foreign("PATCH /api/devices/{own_device}", {"custom_fields": {"{custom-fields}": "x"}}),
    Foreign("POST /api/exports", {"tenant": "{tenant}"}),
    Foreign("POST /api/device-imports", {"tenant": "{tenant}", "devices": [_DEVICE]}),
    Foreign(
        "POST /api/device-imports",
        {"tenant": "{own_tenant}", "group": "{groups}", "devices": [_DEVICE]},
    ),
    Foreign(
        "POST /api/device-imports",
        {"tenant": "{own_tenant}", "devices": [{**_DEVICE, "group": "{groups}"}]},
    ),
    Foreign("POST /api/migrations/{own_tenant}/tokens", {"group": "{groups}"}),
    Foreign("POST /api/migrations/{own_tenant}/undo", {"group": "{groups}"}),
    Foreign("POST /api/migrations/{own_tenant}/undo", {"device": "{devices}"}),
    Foreign(
        "POST /api/nats/agent/register",
        {"groupuuid": "{groups}", "devicename": "x", "enrollment_key": "{own_key}"},
    ),
)

FILTERS = tuple(
    Foreign(f"GET {path}")
    for path in (
        "/api/commands?device={devices}",
        "/api/commands?tenant={tenant}",
        "/api/commands?bulk={bulk-commands}",
        "/api/bulk-commands?tenant={tenant}",
        "/api/device-imports?tenant={tenant}",
        "/api/audit?tenant={tenant}",
        "/api/custom-fields?tenant={tenant}",
        "/api/enrolment-keys?group={groups}",
        "/api/enrolment-keys?tenant={tenant}",
        "/api/memberships?tenant={tenant}",
        "/api/tags?tenant={tenant}",
        "/api/exports?tenant={tenant}",
        "/api/groups?organisation={organisations}",
        "/api/groups?tenant={tenant}",
        "/api/organisations?tenant={tenant}",
        *(
            f"/api/{address}?{name}={{{of}}}"
            for address in ("devices", "nats/agent-status", "nats/tenant/{own_tenant}/devices")
            for name, of in (
                ("tenant", "tenant"),
                ("group", "groups"),
                ("organisation", "organisations"),
                ("tag", "tags"),
            )
        ),
    )
)
