"""The only writer of the audit: what happened, by whom, to what. No secret ever stands in it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.utils import timezone

from tenants import origin
from tenants.models import Action, ActorKind, AuditEntry, User


@dataclass(frozen=True)
class Actor:
    """Who did it, by value; `identity` is a person's primary key or a device's uuid."""

    kind: ActorKind
    name: str
    identity: str = ""


@dataclass(frozen=True)
class Event:
    """What `record_many` writes; see AuditEntry for the fields."""

    action: Action
    tenant: UUID | None
    actor: Actor
    device: UUID | None = None
    target: str = ""
    address: str = ""
    via: str = ""
    at: datetime | None = None
    count: int = 1
    detail: dict[str, Any] = field(default_factory=dict)


def record(
    action: Action,
    *,
    tenant: UUID | None,
    by: "User | Actor | None" = None,
    device: UUID | None = None,
    target: str = "",
    detail: dict[str, Any] | None = None,
) -> None:
    """One row in the caller's transaction. `by=None` is whoever the origin names: a command line's
    user, else the platform itself."""
    now = origin.current()
    record_many(
        [
            Event(
                action,
                tenant,
                _actor(by),
                device=device,
                target=target,
                address=now.address,
                via=now.via,
                detail=detail or {},
            )
        ]
    )


def record_many(events: Iterable[Event]) -> None:
    AuditEntry.objects.bulk_create(map(_row, events), batch_size=500)


def device_actor(device: UUID) -> Actor:
    return Actor(ActorKind.DEVICE, f"device_{device}", str(device))


def _actor(by: "User | Actor | None") -> Actor:
    if isinstance(by, Actor):
        return by
    if by is not None:
        return Actor(ActorKind.PERSON, by.get_username(), str(by.pk))
    return Actor(ActorKind.PLATFORM, origin.current().name)


def _row(event: Event) -> AuditEntry:
    return AuditEntry(
        at=event.at or timezone.now(),
        tenant_uuid=event.tenant,
        action=event.action,
        actor_kind=event.actor.kind,
        actor=event.actor.name[:200],
        actor_id=event.actor.identity,
        device_uuid=event.device,
        target=event.target[:300],
        address=event.address[:64],
        via=event.via,
        count=event.count,
        detail=event.detail,
    )
