"""Claim due commands for publishing, and end those that get no response in time.

A command is marked as sent before it is published. A crash in between costs a resend to an agent
that gives receipts (and remembers what it has run), and "no response" from one that does not.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, F, OuterRef
from django.utils import timezone

from devices.commands.correlation import log_by_request
from devices.commands.due import lock_due
from devices.live import frames
from devices.models import (
    OPEN_STATES,
    BrokerSession,
    Command,
    CommandState,
    Connectivity,
)
from devices.models.command import NO_RESPONSE
from devices.presence.coverage import silence_counts_since
from tenants.models import Membership, Role

SWEPT_AT_ONCE = 1000

Connections = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Outgoing:
    """A command to publish now to this account's device, with this payload.

    `connections` (server and client) are those of a device that gives no receipts: it gets nothing
    twice, so one of them must be listening when the command is published. None if it gives them.
    `request_id` is that of the request that issued it.
    """

    command: int
    uuid: UUID
    account: str
    tenant: UUID
    device: UUID
    payload: dict[str, Any]
    request_id: str
    connections: Connections | None


def claim_due(limit: int = 200, *, besides: Collection[UUID] = ()) -> list[Outgoing]:
    """Mark up to `limit` due commands as sent, oldest first, and return what to publish; skip the
    devices `besides`. Several subscribers may claim at once; each gets its own rows.
    """
    with transaction.atomic():
        rows = _in_order(lock_due(limit, besides=besides))
        allowed = _still_allowed(rows)
        due = [row for row in rows if row.pk in allowed]
        refused = [row for row in rows if row.pk not in allowed]
        _mark_sent(due)
        _finish(
            refused, CommandState.FAILED, "the user who issued it may no longer command this device"
        )
        connections = _connections_without_receipts({row.device_id for row in due})
        outgoing = [_outgoing(row, connections.get(row.device_id)) for row in due]
    frames.push_commands(refused)
    return outgoing


def mark_published(sent: Sequence[Outgoing], unsent: Sequence[Outgoing]) -> None:
    """Queue commands that certainly were not published again, and show the others on the pages."""
    waiting = Command.objects.filter(pk__in=[each.command for each in unsent])
    waiting.move_to(CommandState.QUEUED, sent_at=None, sends=F("sends") - 1)
    frames.push_states((each.device, each.uuid, CommandState.SENT) for each in sent)
    log_by_request("commands sent", {each.uuid: each.request_id for each in sent})


def sweep() -> None:
    """End commands that have waited too long for their device or its response."""
    while _sweep_some():
        pass


def _sweep_some() -> bool:
    """End one batch. Return whether there may be more."""
    with transaction.atomic():
        now = timezone.now()
        silent_since = now - timedelta(seconds=settings.COMMAND_RESPONSE_SECONDS)
        open_rows = (
            Command.objects.select_for_update(skip_locked=True, of=("self",))
            .select_related("device__tenant")
            .defer("parameters", "result")
        )
        # A response may wait in its stream while the service is paused, and for a while after.
        patience = min(settings.COMMAND_RESPONSE_SECONDS, settings.ONLINE_SECONDS)
        listening = silence_counts_since(now - timedelta(seconds=patience))
        ended_by_deadline = OPEN_STATES if listening else [CommandState.QUEUED]
        late = list(
            open_rows.filter(state__in=ended_by_deadline, deadline__lte=now).order_by("deadline")[
                :SWEPT_AT_ONCE
            ]
        )
        expired = [row for row in late if row.state == CommandState.QUEUED]
        unanswered = [row for row in late if row.state != CommandState.QUEUED]
        if listening:
            sent = open_rows.filter(state=CommandState.SENT, deadline__gt=now)
            silent = sent.filter(
                ~_gives_receipts(), ~_may_claim_receipts_again(now), sent_at__lte=silent_since
            ).order_by("sent_at")
            unanswered += silent[:SWEPT_AT_ONCE]
        by_reason: dict[str, list[Command]] = {}
        for row in expired:
            by_reason.setdefault(_why_not_sent(row), []).append(row)
        for reason, rows in by_reason.items():
            _finish(rows, CommandState.EXPIRED, reason)
        _finish(unanswered, CommandState.FAILED, NO_RESPONSE, unanswered=True)
    frames.push_commands(expired + unanswered)
    return max(len(late), len(unanswered)) >= SWEPT_AT_ONCE


def _gives_receipts() -> Exists:
    """Return whether the device's agent gives receipts; an agent that names none gives none."""
    return Exists(Connectivity.objects.giving_receipts().filter(device=OuterRef("device")))


def _may_claim_receipts_again(now: datetime) -> Exists:
    """Return whether the agent has just connected, so that a heartbeat may still claim receipts."""
    since = now - timedelta(seconds=settings.ONLINE_SECONDS)
    known = Connectivity.objects.filter(device=OuterRef("device"))
    return Exists(known.that_may_claim_receipts_again(since=since))


def _connections_without_receipts(devices: set[UUID]) -> dict[UUID, Connections]:
    """Return the open connections of each device that gives no receipts."""
    receipts = Connectivity.objects.giving_receipts().filter(device__in=devices)
    plain = devices.difference(receipts.values_list("device", flat=True))
    found: dict[UUID, Connections] = dict.fromkeys(plain, ())
    rows = BrokerSession.objects.filter(device__in=plain, ended_at=None)
    for device, server, client in rows.values_list("device", "server_id", "client_id"):
        found[device] = (*found[device], (server, client))
    return found


def _still_allowed(rows: Sequence[Command]) -> set[int]:
    operators = set(
        Membership.objects.filter(
            user__in={row.created_by_id for row in rows if row.created_by_id},
            user__is_active=True,
            role__in=Role.at_least(Role.OPERATOR),
        ).values_list("user_id", "tenant_id")
    )
    return {
        row.pk
        for row in rows
        if row.by_platform or (row.created_by_id, row.device.tenant_id) in operators
    }


def _in_order(rows: list[Command]) -> list[Command]:
    """Return the rows without those behind a command that another subscriber is just claiming."""
    mine = {row.pk for row in rows}
    queued = [row for row in rows if row.state == CommandState.QUEUED]
    before = Command.objects.filter(
        device__in={row.device_id for row in queued},
        state=CommandState.QUEUED,
        id__lt=max((row.pk for row in queued), default=0),
    ).exclude(pk__in=mine)
    first: dict[UUID, int] = {}
    for device, number in before.values_list("device", "id").order_by("-id"):
        first[device] = number
    return [row for row in rows if row.pk < first.get(row.device_id, row.pk + 1)]


def _mark_sent(rows: Sequence[Command]) -> None:
    now = timezone.now()
    for row in rows:
        row.become(CommandState.SENT, sent_at=now, sends=row.sends + 1)
    claimed = Command.objects.filter(pk__in=[row.pk for row in rows])
    claimed.move_to(CommandState.SENT, sent_at=now, sends=F("sends") + 1)


def _finish(
    rows: Sequence[Command], state: CommandState, error: str, *, unanswered: bool = False
) -> None:
    changes = {"error": error, "finished_at": timezone.now(), "unanswered": unanswered}
    for row in rows:
        row.become(state, **changes)
    Command.objects.filter(pk__in=[row.pk for row in rows]).move_to(state, **changes)


def _why_not_sent(row: Command) -> str:
    if row.device.archived_at is not None:
        return "the device was archived, and not unarchived before the deadline"
    if row.device.revoked_at is not None:
        return "the device was revoked, and not reinstated before the deadline"
    if row.device.tenant.suspended_at is not None:
        return "the tenant was suspended, and not resumed before the deadline"
    return "the device was not online, or not listening, before the deadline"


def _outgoing(row: Command, connections: Connections | None) -> Outgoing:
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
    account = row.device.tenant.broker_account.public_key
    return Outgoing(row.pk, row.uuid, account, tenant, device, body, row.request_id, connections)


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
