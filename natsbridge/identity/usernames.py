"""Build and parse the usernames of tenants and devices at the broker.

They are `tenant_{uuid}` and `device_{uuid}`, with the UUID in its canonical form. Any other name at
a login is an attacker's choice, or a password that was typed into the wrong field.
"""

import re
from typing import NamedTuple
from uuid import UUID

_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_USERNAME = re.compile(rf"(tenant|device)_({_UUID})")


class Username(NamedTuple):
    """What a username names: one of the two is set."""

    tenant: UUID | None = None
    device: UUID | None = None


def tenant_username(tenant: UUID | str) -> str:
    return f"tenant_{tenant}"


def device_username(device: UUID | str) -> str:
    return f"device_{device}"


def username_of(tenant: UUID | str, device: UUID | str | None) -> str:
    """Return the device's username, or without a device the tenant's."""
    return device_username(device) if device else tenant_username(tenant)


def parse_username(name: str) -> Username | None:
    """Return what the name stands for, or None for a name that is not a tenant's or a device's."""
    found = _USERNAME.fullmatch(name)
    if found is None:
        return None
    uuid = UUID(found[2])
    return Username(device=uuid) if found[1] == "device" else Username(tenant=uuid)
