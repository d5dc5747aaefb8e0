"""Check which tenant a message belongs to: the broker has proved the account it came from, and the
database says which devices that account's tenant has."""

import time
from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from devices.models import Device
from natsbridge.protocol.envelope import Message, Unreadable
from natsbridge.registry import Rejection
from natsbridge.subscriber.breaker import DATABASE

# Beyond this many devices a cache starts afresh, so that made-up ones cannot fill the memory.
CACHED_DEVICES = 200_000


def accounts_of(devices: Iterable[UUID]) -> dict[UUID, tuple[str, UUID]]:
    """Return the account key and the tenant of each device that exists."""
    rows = Device.objects.filter(pk__in=set(devices)).values_list(
        "pk", "tenant__broker_account__public_key", "tenant_id"
    )
    return {device: (account, tenant) for device, account, tenant in rows}


class AccountCache:
    """The account of each device, looked up again every `lifetime` seconds.

    Live metrics are too many for a query a batch. Devices that do not exist are remembered too, so
    that they cost no more. While the database is away, what was known stays valid.
    """

    def __init__(self, lifetime: float = 30.0) -> None:
        self._lifetime = lifetime
        self._accounts: dict[UUID, str | None] = {}
        self._fresh_until = 0.0

    def accounts_of(self, devices: Iterable[UUID]) -> Mapping[UUID, str | None]:
        """Return the accounts of at least these devices, None for one that does not exist.

        A device that could not be looked up, since the database is away, is left out.
        """
        if DATABASE.is_open:
            return self._accounts
        if time.monotonic() > self._fresh_until or len(self._accounts) > CACHED_DEVICES:
            self._accounts.clear()
            self._fresh_until = time.monotonic() + self._lifetime
        if missing := set(devices) - self._accounts.keys():
            found = accounts_of(missing)
            for device in missing:
                self._accounts[device] = found[device][0] if device in found else None
        return self._accounts


def reject_foreign(messages: Sequence[Message]) -> tuple[list[Message], list[Rejection]]:
    """Split off the messages of devices that the sender's tenant does not have."""
    accounts = accounts_of(message.device for message in messages)
    accepted: list[Message] = []
    rejected: list[Rejection] = []
    for message in messages:
        if accounts.get(message.device) == (message.account, message.tenant):
            accepted.append(message)
        else:
            detail = f"The account's tenant has no device {message.device}."
            rejected.append(Rejection(message.raw, "unknown_device", detail))
    return accepted, rejected


def reject_unreadable(messages: Sequence[Message]) -> list[Rejection]:
    """Reject the messages whose body could not be decoded, each with its reason."""
    return [
        Rejection(message.raw, message.body.reason, message.body.detail)
        for message in messages
        if isinstance(message.body, Unreadable)
    ]
