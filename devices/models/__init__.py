"""What is watched, what is known of it, and what it was told to do."""

from devices.models.command import OPEN_STATES, Command, CommandState
from devices.models.connectivity import Connectivity, RealtimeData
from devices.models.device import Device

__all__ = [
    "OPEN_STATES",
    "Command",
    "CommandState",
    "Connectivity",
    "Device",
    "RealtimeData",
]
