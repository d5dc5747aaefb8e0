"""Choose the commands that are due, in several small steps.

Postgres plans one query with all the conditions badly while its statistics say that the tables are
empty, as they do for a while after a first start: it took minutes for a thousand commands. Here
each step reads one table, or begins with the few rows that the step before has found.
"""

from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import NamedTuple
from uuid import UUID

from django.db.models import Exists, F, Min, OuterRef, Q, QuerySet, Value
from django.db.models.functions import Coalesce
from django.utils import timezone

from devices.models import BrokerSession, Command, CommandState, Connectivity, Device, Presence
from devices.presence.coverage import current_cutoffs

# A receipt comes within a second; without one the command is sent again, less and less often.
RESEND_SECONDS = 10
# It is sent again sooner to a device that has sent a heartbeat since: it is listening again.
MISSED_SECONDS = 1
# How often a command is sent before those behind it no longer wait for its receipt.
SENDS_IN_ORDER = 3
# How many commands are looked at together.
AT_ONCE = 500


class Candidate(NamedTuple):
    command: int
    device: UUID
    state: str


def lock_due(limit: int, *, besides: Collection[UUID]) -> list[Command]:
    """Lock up to `limit` due commands, oldest first, besides these devices'; leave those that
    another subscriber has locked.

    One is due if it is queued for an online device, or was sent to an agent that gives receipts and
    has given none.
    """
    locked: list[Command] = []
    due = _due(besides)
    while len(locked) < limit and (keys := list(islice(due, limit))):
        rows = Command.objects.filter(_still_to_send(), pk__in=keys).order_by("id")
        rows = rows.prefetch_related("device__tenant__broker_account", "created_by")
        locked += rows.select_for_update(skip_locked=True)[: limit - len(locked)]
    return locked


def _due(besides: Collection[UUID]) -> Iterator[int]:
    """Yield the primary keys, oldest first."""
    waiting = _candidates(timezone.now()).exclude(device__in=besides)
    # The sum keeps Postgres from looking for them along all commands that ever were.
    ordered = waiting.order_by(F("id") + 0).values_list("id", "device", "state")
    candidates = [Candidate(*each) for each in ordered]
    for start in range(0, len(candidates), AT_ONCE):
        yield from _ready(candidates[start : start + AT_ONCE])


def _candidates(now: datetime) -> QuerySet[Command]:
    """Return the commands that may be sent, as far as their rows and their devices' presence say.

    This joins neither tenants nor accounts: by way of a tenant Postgres would join each command to
    all devices of it.
    """
    missed = Q(
        state=CommandState.SENT,
        sent_at__lt=now - timedelta(seconds=MISSED_SECONDS),
        device__connectivity__capabilities_at__gt=F("sent_at"),
    )
    return Command.objects.filter(
        _to_send(now) | missed,
        ~Q(device__connectivity__presence=Presence.OFFLINE),
        deadline__gt=now,
        device__connectivity__last_seen_online__gte=current_cutoffs().online_since,
    )


def _still_to_send() -> Q:
    """Return what tells a command from one that another subscriber has sent just now."""
    moment_ago = timezone.now() - timedelta(seconds=MISSED_SECONDS)
    return Q(state=CommandState.QUEUED) | Q(state=CommandState.SENT, sent_at__lt=moment_ago)


def _to_send(now: datetime) -> Q:
    late = now - F("sends") * Value(timedelta(seconds=RESEND_SECONDS))
    return Q(state=CommandState.QUEUED) | Q(state=CommandState.SENT, sent_at__lt=late)


def _ready(candidates: Sequence[Candidate]) -> Iterator[int]:
    """Return those whose device is admitted and hears them, unless one before has no receipt."""
    admitted = Device.objects.filter(
        pk__in={each.device for each in candidates},
        revoked_at=None,
        tenant__suspended_at=None,
        tenant__broker_account__isnull=False,
    )
    known = Connectivity.objects.filter(device__in=list(admitted.values_list("pk", flat=True)))
    receipts = set(known.giving_receipts().values_list("device", flat=True))
    hearing = set(_hearing(known).values_list("device", flat=True))
    # A command before it that may be lost is sent again first.
    unreceipted = Command.objects.filter(
        device__in=receipts, state=CommandState.SENT, sends__lt=SENDS_IN_ORDER
    )
    first = dict(unreceipted.order_by().values_list("device").annotate(Min("id")))
    for each in candidates:
        if each.state == CommandState.SENT:
            if each.device in receipts:
                yield each.command
        elif each.device in receipts:
            if first.get(each.device, each.command) >= each.command:
                yield each.command
        elif each.device in hearing:
            yield each.command


def _hearing(known: QuerySet[Connectivity]) -> QuerySet[Connectivity]:
    """Return the devices that are connected, and have sent a heartbeat over each connection.

    Only devices that give receipts are sent a missed command again. So others get nothing in the
    grace after a disconnect, nor between their login and their subscription.
    """
    connected = BrokerSession.objects.filter(device=OuterRef("device"), ended_at=None)
    last_heartbeat = Coalesce(OuterRef("last_heartbeat"), datetime.fromtimestamp(0, UTC))
    return known.filter(Exists(connected), ~Exists(connected.filter(started_at__gt=last_heartbeat)))
