"""Record senders that flood the broker, and block those that do it again."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from natsbridge.identity.usernames import username_of
from natsbridge.rules.metering import Excess
from tenants.audit.writer import Actor, AuditEvent, device_actor, record_events
from tenants.broker.accounts import announce_account
from tenants.models import Action, ActorKind, BrokerAccount, FloodBlock, Tenant

# After a longer time without a flood, the next one counts as the first.
FORGIVEN_AFTER = timedelta(hours=1)
MOST_DOUBLINGS = 5
# Two subscribers see one flood within JUST_NOW. One of them ends its connections; the other, which
# finds them gone, may have been delayed by the flood itself, up to OF_LATE.
JUST_NOW = timedelta(seconds=0.3)
OF_LATE = timedelta(seconds=5)


@dataclass(frozen=True)
class Sender:
    """The owner of a connection.

    Many machines may use one tenant credential, so there each `connection` is a sender of its own.
    """

    tenant: UUID
    device: UUID | None = None
    public_key: str = ""
    address: str = ""
    connection: tuple[str, int] | None = None

    @property
    def name(self) -> str:
        return username_of(self.tenant, self.device)


def tenants_by_account(accounts: Collection[str]) -> dict[str, UUID]:
    """Return the tenants by the public keys of their accounts, without the platform's accounts."""
    rows = BrokerAccount.objects.filter(public_key__in=set(accounts))
    return dict(rows.values_list("public_key", "tenant"))


@transaction.atomic
def record_flood(
    sender: Sender, excess: Excess, *, seen_at: datetime | None = None, were_gone: bool = False
) -> FloodBlock | None:
    """Record that the sender's connections were ended, or `were_gone` already.

    The second flood blocks the sender, and each further one for twice as long. Return None if
    another subscriber has recorded this flood.
    """
    now = timezone.now()
    seen_at = seen_at or now
    # The tenant's row is locked, so that two subscribers count one flood once.
    tenant = Tenant.objects.select_for_update(no_key=True).get(pk=sender.tenant)
    of_sender: dict[str, Any] = {
        "tenant": tenant,
        "device_uuid": sender.device,
        "public_key": "" if sender.device else sender.public_key,
        "address": "" if sender.device or sender.public_key else sender.address,
    }
    row = FloodBlock.objects.filter(**of_sender).first()
    if row is None:
        row = FloodBlock(**of_sender, offences=0)
    elif (row.until and row.until > now) or row.at > seen_at - (OF_LATE if were_gone else JUST_NOW):
        return None
    elif (row.until or row.at) < now - FORGIVEN_AFTER:
        row.offences = 0
    row.offences += 1
    row.at = seen_at
    row.messages_per_second = round(excess.messages_per_second)
    row.bytes_per_second = round(excess.bytes_per_second)
    row.until = row.lifted_at = None
    if row.offences > 1 and settings.FLOOD_BLOCK_SECONDS:
        doublings = min(row.offences - 2, MOST_DOUBLINGS)
        row.until = now + timedelta(seconds=settings.FLOOD_BLOCK_SECONDS * 2**doublings)
        announce_account(tenant)
    row.save()
    record_events([_event(sender, row)])
    return row


@transaction.atomic
def lift_due_blocks() -> int:
    """End the blocks whose time is up, and return their number. Several may do this at once."""
    rows = list(FloodBlock.objects.select_for_update(skip_locked=True).over()[:100])
    FloodBlock.objects.filter(pk__in=[row.pk for row in rows]).update(lifted_at=timezone.now())
    for tenant in sorted({row.tenant_id for row in rows}):
        announce_account(Tenant(pk=tenant))
    return len(rows)


def _event(sender: Sender, row: FloodBlock) -> AuditEvent:
    detail: dict[str, Any] = {
        "messages_per_second": row.messages_per_second,
        "bytes_per_second": row.bytes_per_second,
        "messages_allowed": settings.DEVICE_MESSAGES_PER_SECOND,
        "bytes_allowed": settings.DEVICE_BYTES_PER_SECOND,
    }
    if sender.public_key:
        detail["user"] = sender.public_key
    if row.until:
        detail["shut_out_until"] = row.until.isoformat()
    return AuditEvent(
        Action.BROKER_FLOODED,
        sender.tenant,
        device_actor(sender.device) if sender.device else Actor(ActorKind.CREDENTIAL, sender.name),
        device=sender.device,
        target=sender.name,
        address=sender.address,
        via="broker",
        detail=detail,
    )
