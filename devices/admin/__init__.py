from devices.admin.commands import CommandAdmin
from devices.admin.devices import DeviceAdmin

__all__ = ["CommandAdmin", "DeviceAdmin"]
