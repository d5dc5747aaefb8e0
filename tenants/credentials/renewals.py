"""Which devices' agents fetch a new credential when they are told to. This app knows no devices, so
the one that does says it here, as it is loaded."""

from collections.abc import Callable, Collection
from uuid import UUID

# The channel on which a subscriber hears that agents are to fetch new credentials.
RENEWALS_CHANNEL = "wegweiser_renewals"

# Of these devices, those whose agents do.
WhoRenews = Callable[[Collection[UUID]], set[UUID]]

_answers: list[WhoRenews] = []


def register_renewing_devices(who: WhoRenews) -> None:
    """Call it as an app is loaded."""
    _answers.append(who)


def renewing_devices(devices: Collection[UUID]) -> set[UUID]:
    return {device for who in _answers for device in who(devices)} if devices else set()
