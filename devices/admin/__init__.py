from devices.admin.commands import CommandAdmin
from devices.admin.devices import DeviceAdmin
from devices.admin.inventory import CustomFieldAdmin, NoteAdmin, TagAdmin
from devices.admin.latest import RealtimeDataAdmin

__all__ = [
    "CommandAdmin",
    "CustomFieldAdmin",
    "DeviceAdmin",
    "NoteAdmin",
    "RealtimeDataAdmin",
    "TagAdmin",
]
