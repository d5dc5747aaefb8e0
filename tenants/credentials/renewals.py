"""Find the devices whose agents fetch a new credential when told to.

This app does not know devices, so the app that does registers a function here as it is loaded.
"""

from collections.abc import Callable, Collection
from uuid import UUID

# Notified when agents have to be told to fetch new credentials.
RENEWALS_CHANNEL = "wegweiser_renewals"

# Returns those of the devices whose agents do.
RenewingDevices = Callable[[Collection[UUID]], set[UUID]]

_lookups: list[RenewingDevices] = []


def register_renewing_devices(lookup: RenewingDevices) -> None:
    _lookups.append(lookup)


def renewing_devices(devices: Collection[UUID]) -> set[UUID]:
    return {device for lookup in _lookups for device in lookup(devices)} if devices else set()
