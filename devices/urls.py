from django.urls import path

from devices.views import (
    bulk,
    commands,
    controls,
    definitions,
    device,
    enrolment,
    fleet,
    inventory,
    onboarding,
    presence,
)

urlpatterns = [
    path("", fleet.fleet, name="fleet"),
    path("devices/add/", enrolment.add_device, name="add-device"),
    path("devices/add/<uuid:secret_id>/", enrolment.device_added, name="device-added"),
    path("devices/<uuid:device_uuid>/", device.device, name="device"),
    path("devices/<uuid:device_uuid>/details/", inventory.details, name="device-details"),
    path("devices/<uuid:device_uuid>/edit/", inventory.edit, name="device-edit"),
    path("devices/<uuid:device_uuid>/archive/", inventory.archive, name="device-archive"),
    path("devices/<uuid:device_uuid>/unarchive/", inventory.unarchive, name="device-unarchive"),
    path("devices/<uuid:device_uuid>/notes/", inventory.write_note, name="device-note-new"),
    path(
        "devices/<uuid:device_uuid>/notes/<uuid:note_uuid>/delete/",
        inventory.remove_note,
        name="device-note-delete",
    ),
    path(
        "tenant/<uuid:tenant_uuid>/definitions/",
        definitions.definitions,
        name="tenant-definitions",
    ),
    path("tenant/<uuid:tenant_uuid>/tags/new/", definitions.new_tag, name="tag-new"),
    path(
        "tenant/<uuid:tenant_uuid>/tags/<uuid:tag_uuid>/rename/",
        definitions.rename_tag,
        name="tag-rename",
    ),
    path(
        "tenant/<uuid:tenant_uuid>/tags/<uuid:tag_uuid>/delete/",
        definitions.delete_tag,
        name="tag-delete",
    ),
    path("tenant/<uuid:tenant_uuid>/fields/new/", definitions.new_field, name="field-new"),
    path(
        "tenant/<uuid:tenant_uuid>/fields/<uuid:field_uuid>/change/",
        definitions.change_field,
        name="field-change",
    ),
    path(
        "tenant/<uuid:tenant_uuid>/fields/<uuid:field_uuid>/delete/",
        definitions.delete_field,
        name="field-delete",
    ),
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
    path("tenant/<uuid:tenant_uuid>/migration/", onboarding.migration, name="tenant-migration"),
    path(
        "tenant/<uuid:tenant_uuid>/migration/tokens/",
        onboarding.tokens,
        name="tenant-migration-tokens",
    ),
    path(
        "tenant/<uuid:tenant_uuid>/migration/tokens/<uuid:secret_id>/",
        onboarding.tokens_issued,
        name="tenant-migration-tokens-issued",
    ),
    path(
        "tenant/<uuid:tenant_uuid>/migration/undo/", onboarding.undo, name="tenant-migration-undo"
    ),
    path(
        "tenant/<uuid:tenant_uuid>/migration/imports/<uuid:import_uuid>/undo/",
        onboarding.undo_import,
        name="tenant-migration-undo-import",
    ),
    path(
        "tenant/<uuid:tenant_uuid>/migration/complete/",
        onboarding.complete,
        name="tenant-migration-complete",
    ),
    path(
        "tenant/<uuid:tenant_uuid>/migration/reopen/",
        onboarding.reopen,
        name="tenant-migration-reopen",
    ),
    path("downloads/nats_persistent_agent.py", enrolment.download_agent, name="agent-download"),
]
