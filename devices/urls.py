from django.urls import path

from devices.views import commands, device, enrolment, fleet

urlpatterns = [
    path("", fleet.fleet, name="fleet"),
    path("devices/add/", enrolment.add_device, name="add-device"),
    path("devices/<uuid:device_uuid>/", device.device, name="device"),
    path("devices/<uuid:device_uuid>/status/", device.device_status, name="device-status"),
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
    path("downloads/nats_persistent_agent.py", enrolment.download_agent, name="agent-download"),
]
