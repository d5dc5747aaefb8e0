"""Write the audit: what happened, by whom, to what. Secrets are never part of it."""

from collections.abc import Callable, Collection, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.utils import timezone

from natsbridge.identity.usernames import device_username
from natsbridge.postgres.wakeups import notify
from natsbridge.protocol.storable import storable, storable_json
from tenants.audit import sealing
from tenants.models import Action, ActorKind, AuditEntry, User
from tenants.origin import current_origin

# Notified when there are new rows to seal.
AUDIT_CHANNEL = "wegweiser_audit"

DeviceNames = Callable[[Collection[UUID]], Mapping[UUID, str]]


@dataclass(frozen=True)
class Actor:
    """The one who did it, by name; `identity` is a person's primary key or a device's UUID."""

    kind: ActorKind
    name: str
    identity: str = ""


PLATFORM = Actor(ActorKind.PLATFORM, "")


@dataclass(frozen=True)
class AuditEvent:
    """A row to write; see AuditEntry for the fields.

    A `target` that is empty, or the device's username, becomes "device anna-laptop".
    """

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


def record_action(
    action: Action,
    *,
    tenant: UUID | None,
    by: "User | Actor | None" = None,
    device: UUID | None = None,
    target: str = "",
    detail: dict[str, Any] | None = None,
) -> None:
    """Write one row in the caller's transaction; see `audit_event`."""
    record_events(
        [audit_event(action, tenant=tenant, by=by, device=device, target=target, detail=detail)]
    )


def audit_event(
    action: Action,
    *,
    tenant: UUID | None,
    by: "User | Actor | None" = None,
    device: UUID | None = None,
    target: str = "",
    detail: dict[str, Any] | None = None,
) -> AuditEvent:
    """Return an event with the current origin, for `record_events`.

    Without `by` the actor is the user of the command line, or else the platform itself.
    """
    now = current_origin()
    return AuditEvent(
        action,
        tenant,
        _actor(by),
        device=device,
        target=target,
        address=now.address,
        via=now.via,
        detail=detail or {},
    )


def actor_name(by: "User | Actor | None") -> str:
    """Return the actor's name as the audit has it; empty for the platform."""
    return _actor(by).name[:200]


def record_events(events: Iterable[AuditEvent]) -> None:
    """Write rows in the caller's transaction. A subscriber seals them soon after it."""
    found = list(events)
    if not found:
        return
    names = _device_names({event.device for event in found if event.device and _is_bare(event)})
    rows = [_row(event, names) for event in found]
    AuditEntry.objects.bulk_create(rows, batch_size=500)
    notify(AUDIT_CHANNEL)


def prune_audit(before: datetime) -> Generator[int, None, None]:
    """Delete older rows in batches of a transaction each, and yield the size of each batch.

    Each batch leaves an anchor, by which a verification knows that the rows were pruned.
    """
    total = up_to = 0
    try:
        while True:
            removed, anchor = sealing.prune_batch(before)
            if anchor is None:
                return
            total, up_to = total + removed, anchor.sequence
            sealing.write_to_file(anchor)
            yield removed
    finally:
        if total:
            detail = {"rows": total, "before": before.isoformat(), "up_to_sequence": up_to}
            record_action(Action.AUDIT_PRUNED, tenant=None, detail=detail)


def record_export(tenant: UUID | None, *, by: User, format: str, wanted: dict[str, Any]) -> None:
    """Record an export of a tenant's audit, or of all of it.

    This happens on a GET, since what a browser fetches ahead has left the server as well.
    """
    detail = {"format": format, "filters": wanted}
    record_action(Action.AUDIT_EXPORTED, tenant=tenant, by=by, detail=detail)


def register_device_names(names: DeviceNames) -> None:
    """Register the function that names devices; the app that has them calls this once."""
    _namers[:] = [names]


def device_actor(device: UUID) -> Actor:
    return Actor(ActorKind.DEVICE, device_username(device), str(device))


def _actor(by: "User | Actor | None") -> Actor:
    if isinstance(by, Actor):
        return by
    if by is not None:
        return Actor(ActorKind.PERSON, by.get_username(), str(by.pk))
    return Actor(ActorKind.PLATFORM, current_origin().name)


_namers: list[DeviceNames] = []


def _device_names(devices: Collection[UUID]) -> Mapping[UUID, str]:
    return _namers[0](devices) if devices and _namers else {}


def _is_bare(event: AuditEvent) -> bool:
    """Return whether the target is empty, or only the device's username."""
    return not event.target or bool(event.device and event.target == device_username(event.device))


def _target(event: AuditEvent, names: Mapping[UUID, str]) -> str:
    if event.device and _is_bare(event):
        return f"device {names.get(event.device, event.device)}"
    return event.target


def _row(event: AuditEvent, names: Mapping[UUID, str]) -> AuditEntry:
    return AuditEntry(
        at=event.at or timezone.now(),
        tenant_uuid=event.tenant,
        action=event.action,
        actor_kind=event.actor.kind,
        actor=storable(event.actor.name[:200]),
        actor_id=event.actor.identity,
        device_uuid=event.device,
        target=storable(_target(event, names)[:300]),
        address=event.address[:64],
        via=event.via,
        count=event.count,
        detail=storable_json(event.detail),
    )
