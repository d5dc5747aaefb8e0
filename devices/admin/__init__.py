from devices.admin.commands import CommandAdmin
from devices.admin.devices import DeviceAdmin
from devices.admin.latest import RealtimeDataAdmin

__all__ = ["CommandAdmin", "DeviceAdmin", "RealtimeDataAdmin"]
