"""From a queued command to the wire, and the end of those that nobody answers.

A row is marked as sent before it is published: a crash in between costs a resend to an agent
that gives receipts (and remembers what it has run), and "no response" from one that does not.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Q, QuerySet, Value
from django.utils import timezone

from devices import live
from devices.models import Command, CommandState
from devices.models.command import NO_RESPONSE
from devices.watch import current_cutoffs
from tenants.models import Membership, Role

# A receipt comes within a second of the command; without one it is sent again, ever less often.
RESEND_SECONDS = 10

# The advisory lock under which one subscriber at a time sweeps.
_SWEEP_LOCK = 0x7765_6777


@dataclass(frozen=True)
class Outgoing:
    """A command to publish now: to this account's device, with this payload."""

    command: int
    account: str
    device: UUID
    payload: dict[str, Any]


def claim_due(limit: int = 200) -> list[Outgoing]:
    """Marks up to `limit` due commands as sent, oldest first, and returns what to publish.

    Due are those queued for a device that is online, and those sent to an agent that gives
    receipts and has given none. Several subscribers may claim at once; each row is one's.
    """
    with transaction.atomic():
        rows = list(_due()[:limit])
        allowed = _still_allowed(rows)
        due = [row for row in rows if row.pk in allowed]
        refused = [row for row in rows if row.pk not in allowed]
        _mark_sent(due)
        _finish(refused, CommandState.FAILED, "whoever issued it may not command this device now")
        outgoing = [_outgoing(row) for row in due]
    live.push_commands(refused)
    return outgoing


def settle(sent: Sequence[Outgoing], unsent: Sequence[Outgoing]) -> None:
    """After publishing: what certainly did not leave waits again, the rest shows on the pages."""
    commands = [each.command for each in unsent]
    Command.objects.filter(pk__in=commands, state=CommandState.SENT).update(
        state=CommandState.QUEUED, sent_at=None, sends=F("sends") - 1
    )
    live.push_commands(list(Command.objects.filter(pk__in=[each.command for each in sent])))


def sweep() -> None:
    """Ends what has waited too long. Of several subscribers one does it at a time."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_SWEEP_LOCK])
            if not cursor.fetchone()[0]:
                return
        now = timezone.now()
        silent_since = now - timedelta(seconds=settings.COMMAND_RESPONSE_SECONDS)
        open_rows = Command.objects.select_for_update(skip_locked=True, of=("self",))
        expired = list(open_rows.filter(state=CommandState.QUEUED, deadline__lte=now)[:1000])
        unanswered = list(
            open_rows.filter(
                Q(state__in=[CommandState.SENT, CommandState.DELIVERED], deadline__lte=now)
                | Q(state=CommandState.SENT, sent_at__lte=silent_since)
                & ~Q(device__connectivity__capabilities__receipts=True)
            )[:1000]
        )
        _finish(expired, CommandState.EXPIRED, "the device was not online before the deadline")
        _finish(unanswered, CommandState.FAILED, NO_RESPONSE)
    live.push_commands(expired + unanswered)


def _due() -> QuerySet[Command]:
    now = timezone.now()
    queued = Q(state=CommandState.QUEUED)
    unreceipted = Q(
        state=CommandState.SENT,
        device__connectivity__capabilities__receipts=True,
        sent_at__lt=now - F("sends") * Value(timedelta(seconds=RESEND_SECONDS)),
    )
    return (
        Command.objects.filter(
            queued | unreceipted,
            deadline__gt=now,
            device__connectivity__last_seen_online__gte=current_cutoffs().online_since,
            device__tenant__broker_account__isnull=False,
        )
        .select_related("device__tenant__broker_account", "created_by")
        .select_for_update(skip_locked=True, of=("self",))
        .order_by("id")
    )


def _still_allowed(rows: Sequence[Command]) -> set[int]:
    operators = set(
        Membership.objects.filter(
            user__in={row.created_by_id for row in rows if row.created_by_id},
            user__is_active=True,
            role__in=Role.at_least(Role.OPERATOR),
        ).values_list("user_id", "tenant_id")
    )
    return {row.pk for row in rows if (row.created_by_id, row.device.tenant_id) in operators}


def _mark_sent(rows: Iterable[Command]) -> None:
    now = timezone.now()
    for row in rows:
        row.state = CommandState.SENT
        row.sent_at = now
        row.sends += 1
    Command.objects.bulk_update(list(rows), ["state", "sent_at", "sends"])


def _finish(rows: Iterable[Command], state: CommandState, error: str) -> None:
    now = timezone.now()
    for row in rows:
        row.state = state
        row.error = error
        row.finished_at = now
    Command.objects.bulk_update(list(rows), ["state", "error", "finished_at"])


def _outgoing(row: Command) -> Outgoing:
    sent_at = _milliseconds(row.sent_at or timezone.now())
    sender = row.created_by.get_username() if row.created_by else ""
    device, tenant = row.device_id, row.device.tenant_id
    body = {
        "tenant_uuid": str(tenant),
        "device_uuid": str(device),
        "message_type": "command",
        "payload": {
            "command": row.command,
            "command_id": str(row.uuid),
            "parameters": row.parameters,
            "timestamp": sent_at,
            "sender": sender,
        },
        "timestamp": sent_at,
        "message_id": f"{row.uuid}:{row.sends}",
    }
    return Outgoing(row.pk, row.device.tenant.broker_account.public_key, device, body)


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
