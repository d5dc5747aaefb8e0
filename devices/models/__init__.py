"""What is watched, what is known of it, and what it was told to do."""

from devices.models.command import OPEN_STATES, Command, CommandState
from devices.models.connectivity import (
    BrokerSession,
    Connectivity,
    Presence,
    PresenceChange,
    RealtimeData,
    Reporter,
)
from devices.models.device import Device

__all__ = [
    "OPEN_STATES",
    "BrokerSession",
    "Command",
    "CommandState",
    "Connectivity",
    "Device",
    "Presence",
    "PresenceChange",
    "RealtimeData",
    "Reporter",
]
