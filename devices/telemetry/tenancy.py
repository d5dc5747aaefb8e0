"""Whose message it is: the broker has proved the account, the rows say which devices it has."""

from collections.abc import Iterable, Sequence
from uuid import UUID

from devices.models import Device
from natsbridge.protocol.envelope import Message, Unreadable
from natsbridge.registry import Rejection


def accounts_of(devices: Iterable[UUID]) -> dict[UUID, tuple[str, UUID]]:
    """Account key and tenant of each device that exists."""
    rows = Device.objects.filter(pk__in=set(devices)).values_list(
        "pk", "tenant__broker_account__public_key", "tenant_id"
    )
    return {device: (account, tenant) for device, account, tenant in rows}


def reject_foreign(messages: Sequence[Message]) -> tuple[list[Message], list[Rejection]]:
    owners = accounts_of(message.device for message in messages)
    accepted: list[Message] = []
    rejected: list[Rejection] = []
    for message in messages:
        if owners.get(message.device) == (message.account, message.tenant):
            accepted.append(message)
        else:
            detail = f"The account's tenant has no device {message.device}."
            rejected.append(Rejection(message.raw, "unknown_device", detail))
    return accepted, rejected


def reject_unreadable(messages: Sequence[Message]) -> list[Rejection]:
    """Those whose body was refused, each with its reason."""
    return [
        Rejection(message.raw, message.body.reason, message.body.detail)
        for message in messages
        if isinstance(message.body, Unreadable)
    ]
