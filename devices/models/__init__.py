"""Devices, their connectivity and presence, and the commands they are sent."""

from devices.models.bulk import BulkCommand
from devices.models.command import OPEN_STATES, Command, CommandState
from devices.models.connectivity import (
    BrokerSession,
    Connectivity,
    PresenceChange,
    RealtimeData,
)
from devices.models.device import Device, RegistrationProof
from devices.models.inventory import CustomField, DeviceTag, Note, Tag
from devices.models.onboarding import DeviceImport, Onboarding
from devices.presence.rules import Presence, Reporter

__all__ = [
    "OPEN_STATES",
    "BrokerSession",
    "BulkCommand",
    "Command",
    "CommandState",
    "Connectivity",
    "CustomField",
    "Device",
    "DeviceImport",
    "DeviceTag",
    "Note",
    "Onboarding",
    "Presence",
    "PresenceChange",
    "RealtimeData",
    "RegistrationProof",
    "Reporter",
    "Tag",
]
