"""How long this app's rows are kept; credentials too, since only this app knows their devices."""

from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Exists, OuterRef, Q, QuerySet

from devices.models import (
    OPEN_STATES,
    BrokerSession,
    BulkCommand,
    Command,
    Device,
    PresenceChange,
    RegistrationProof,
)
from natsbridge.retention.engine import retention
from tenants.models import Credential

# Events of one connection may arrive in any order, but never later than this.
SESSIONS_KEPT = timedelta(days=1)
# A registration signed more than five minutes ago is refused for its age alone.
PROOFS_KEPT = timedelta(days=1)


@retention.kind("commands")
def commands(now: datetime) -> QuerySet[Command]:
    """Keep the commands of a bulk command together, since its progress is counted from them."""
    before = now - timedelta(days=settings.COMMAND_DAYS)
    younger_bulk = BulkCommand.objects.filter(pk=OuterRef("bulk"), deadline__gte=before)
    final = Command.objects.exclude(state__in=OPEN_STATES)
    return final.filter(~Exists(younger_bulk), finished_at__lt=before)


@retention.kind("bulk commands")
def bulk_commands(now: datetime) -> QuerySet[BulkCommand]:
    """Delete a bulk command after the last of its commands."""
    before = now - timedelta(days=settings.COMMAND_DAYS)
    parts = Command.objects.filter(bulk=OuterRef("pk"))
    return BulkCommand.objects.filter(
        ~Exists(parts), expanded_at__isnull=False, deadline__lt=before
    )


@retention.kind("presence history")
def presence_changes(now: datetime) -> QuerySet[PresenceChange]:
    """Keep the last change before the cutoff: it is the state at which the history begins."""
    before = now - timedelta(days=settings.PRESENCE_HISTORY_DAYS)
    later = PresenceChange.objects.filter(
        device=OuterRef("device"), at__gt=OuterRef("at"), at__lt=before
    )
    return PresenceChange.objects.filter(Exists(later), at__lt=before)


@retention.kind("broker sessions")
def broker_sessions(now: datetime) -> QuerySet[BrokerSession]:
    return BrokerSession.objects.filter(ended_at__lt=now - SESSIONS_KEPT)


@retention.kind("registration proofs")
def registration_proofs(now: datetime) -> QuerySet[RegistrationProof]:
    before = int((now - PROOFS_KEPT).timestamp())
    return RegistrationProof.objects.filter(timestamp__lt=before)


@retention.kind("credentials")
def credentials(now: datetime) -> QuerySet[Credential]:
    """Keep the last used credential of each device: it shows that the agent has logged in, and
    when."""
    used_later = Credential.objects.filter(
        device_uuid=OuterRef("device_uuid"), pk__gt=OuterRef("pk"), first_used_at__isnull=False
    )
    device = Device.objects.filter(pk=OuterRef("device_uuid"))
    spent = Credential.objects.spent(now - timedelta(days=settings.ENDED_DAYS))
    return spent.filter(Q(first_used_at=None) | Exists(used_later) | ~Exists(device))
