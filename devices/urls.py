from django.urls import path

from devices.views import (
    audit,
    bulk,
    commands,
    controls,
    device,
    enrolment,
    fleet,
    presence,
    tenant,
)

urlpatterns = [
    path("", fleet.fleet, name="fleet"),
    path("audit/", audit.audit, name="audit"),
    path("audit/export/", audit.export_audit, name="audit-export"),
    path("devices/add/", enrolment.add_device, name="add-device"),
    path("devices/<uuid:device_uuid>/", device.device, name="device"),
    path("devices/<uuid:device_uuid>/status/", device.device_status, name="device-status"),
    path("devices/<uuid:device_uuid>/presence/", presence.device_presence, name="device-presence"),
    path("devices/<uuid:device_uuid>/form/", commands.command_form, name="device-command-form"),
    path("devices/<uuid:device_uuid>/commands/", commands.commands, name="device-commands"),
    path(
        "devices/<uuid:device_uuid>/commands/<uuid:command_uuid>/",
        commands.command,
        name="device-command",
    ),
    path(
        "devices/<uuid:device_uuid>/commands/<uuid:command_uuid>/cancel/",
        commands.cancel_command,
        name="device-command-cancel",
    ),
    path(
        "devices/<uuid:device_uuid>/commands/<uuid:command_uuid>/retry/",
        commands.retry_command,
        name="device-command-retry",
    ),
    path("commands/", bulk.bulk_commands, name="bulk-commands"),
    path("commands/new/", bulk.new, name="bulk-new"),
    path("commands/<uuid:bulk_uuid>/", bulk.bulk_command, name="bulk-command"),
    path("commands/<uuid:bulk_uuid>/cancel/", bulk.cancel, name="bulk-cancel"),
    path("commands/<uuid:bulk_uuid>/retry/", bulk.retry, name="bulk-retry"),
    path("devices/<uuid:device_uuid>/revoke/", controls.revoke, name="device-revoke"),
    path("devices/<uuid:device_uuid>/reinstate/", controls.reinstate, name="device-reinstate"),
    path("devices/<uuid:device_uuid>/rotate/", controls.rotate, name="device-rotate"),
    path(
        "devices/<uuid:device_uuid>/credentials/",
        controls.device_credentials,
        name="device-credentials",
    ),
    path("devices/<uuid:device_uuid>/delete/", controls.delete, name="device-delete"),
    path("tenant/<uuid:tenant_uuid>/", tenant.tenant, name="tenant"),
    path("tenant/<uuid:tenant_uuid>/issue/", tenant.issue, name="tenant-issue"),
    path("tenant/<uuid:tenant_uuid>/rotate/", tenant.rotate, name="tenant-rotate"),
    path("tenant/<uuid:tenant_uuid>/rotate-keys/", tenant.rotate_keys, name="tenant-rotate-keys"),
    path(
        "tenant/<uuid:tenant_uuid>/credentials/<int:credential_id>/revoke/",
        tenant.revoke,
        name="tenant-credential-revoke",
    ),
    path("downloads/nats_persistent_agent.py", enrolment.download_agent, name="agent-download"),
]
