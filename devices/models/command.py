from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, Self
from uuid import UUID, uuid4

from django.conf import settings
from django.db import connection, models
from django.db.models import Q
from django.utils import timezone

from devices.commands.rules.states import COMMAND_STATES, HANDED_OVER, WrongGraph
from devices.models.bulk import BulkCommand
from devices.models.device import Device
from devices.models.fields import WrittenJSONField
from devices.presence.rules import Cutoffs, Status
from tenants.models import TenantOwnedQuerySet
from tenants.rules.request_ids import MAX_LENGTH


class CommandState(models.TextChoices):
    QUEUED = "queued", "Queued"
    SENT = "sent", "Sent"
    DELIVERED = "delivered", "Delivered"
    SUCCEEDED = "succeeded", "Succeeded"
    FAILED = "failed", "Failed"
    EXPIRED = "expired", "Expired"
    CANCELLED = "cancelled", "Cancelled"


if {state.value for state in CommandState} != COMMAND_STATES.states:
    raise WrongGraph("The states of a command are not those of its graph.")

OPEN_STATES = tuple(CommandState(state) for state in COMMAND_STATES.open)

NO_RESPONSE = "no response"


class Move(NamedTuple):
    """A command, the state it moves to, and the values of other columns as Postgres reads them.

    All moves of one statement change the same columns.
    """

    uuid: UUID
    state: CommandState
    changes: Mapping[str, Any]


class CommandQuerySet(TenantOwnedQuerySet["Command"]):
    tenant_path = "device__tenant"

    def move_to(self, state: CommandState, **changes: Any) -> int:
        """Move the commands that the graph lets become `state`, and change these columns of theirs.

        Leave the others as they are. Return how many moved.
        """
        may_become = self.filter(state__in=COMMAND_STATES.sources_of(state))
        return may_become.update(state=state, **changes)

    def handed_to_offline_devices(self, cutoffs: Cutoffs) -> Self:
        """Return open commands that were sent to devices that are offline now."""
        offline = Device.objects.with_status(Status.OFFLINE, cutoffs)
        return self.filter(state__in=HANDED_OVER, device__in=offline)


class Command(models.Model):
    """One thing that one device is told to do.

    Its state changes along COMMAND_STATES: in the database by `CommandQuerySet.move_to` and
    `Command.move_each`, in memory by `become`, and in no other way.
    """

    id = models.BigAutoField(primary_key=True)
    uuid = models.UUIDField(unique=True, default=uuid4, editable=False)
    device = models.ForeignKey(Device, on_delete=models.CASCADE, related_name="commands")
    command = models.CharField(max_length=100)
    parameters = models.JSONField(default=dict)
    state = models.CharField(
        max_length=10,
        choices=CommandState.choices,
        default=CommandState.QUEUED,
        db_default=CommandState.QUEUED,
    )
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    # Issued by the platform itself, which needs no permission.
    by_platform = models.BooleanField(default=False)
    bulk = models.ForeignKey(
        BulkCommand,
        null=True,
        on_delete=models.SET_NULL,
        related_name="commands",
        db_index=False,
    )
    # The command that it retries.
    retry_of = models.ForeignKey(
        "self", null=True, on_delete=models.SET_NULL, related_name="retries"
    )
    created_at = models.DateTimeField(default=timezone.now)
    # Unsent at its deadline it expires; sent and still open it fails for want of a response.
    deadline = models.DateTimeField()
    sends = models.PositiveSmallIntegerField(default=0)
    sent_at = models.DateTimeField(null=True)
    delivered_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    result = WrittenJSONField(null=True)
    # The size in bytes of a result of which only the beginning is kept.
    result_cut_from = models.PositiveBigIntegerField(null=True)
    error = models.TextField(blank=True)
    # It failed without a response; a late response corrects it.
    unanswered = models.BooleanField(default=False, db_default=False)
    # The id of the request that issued it: the same in the log of the web, in the message to the
    # device, and in the device's response.
    request_id = models.CharField(max_length=MAX_LENGTH, blank=True, default="", db_default="")

    objects = CommandQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["bulk", "device"],
                name="one_command_of_bulk_on_device",
                condition=Q(bulk__isnull=False),
            ),
        ]
        indexes = [
            models.Index(fields=["device", "-id"], name="command_history"),
            models.Index(
                fields=["device", "id"],
                name="command_open",
                condition=Q(state__in=["queued", "sent", "delivered"]),
            ),
            models.Index(
                fields=["finished_at"],
                name="command_finished",
                condition=Q(finished_at__isnull=False),
            ),
            # For the sweep, in a table that keeps months of ended commands.
            models.Index(
                fields=["deadline"],
                name="command_deadline",
                condition=Q(state__in=["queued", "sent", "delivered"]),
            ),
            models.Index(fields=["sent_at"], name="command_sent", condition=Q(state="sent")),
            models.Index(
                fields=["bulk", "state"],
                name="command_of_bulk",
                condition=Q(bulk__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.command} on {self.device_id}: {self.state}"

    @property
    def is_open(self) -> bool:
        return self.state in OPEN_STATES

    @property
    def is_handed_over(self) -> bool:
        return self.state in HANDED_OVER

    def become(self, state: CommandState, **changes: Any) -> None:
        """Change this object only; the row moves by `move_to`. Raise NoSuchTransition."""
        COMMAND_STATES.check(self.state, state)
        self.state = state
        for name, value in changes.items():
            setattr(self, name, value)

    @classmethod
    def move_each(cls, moves: Collection[Move], *, corrections: bool = False) -> list[UUID]:
        """Move each command to a state of its own, in one statement. Return the uuids moved.

        With `corrections`, a response that comes late may also change what has ended; a failure
        only where nothing was answered.
        """
        if not moves:
            return []
        ordered = sorted(moves, key=lambda move: move.uuid)
        names = list(ordered[0].changes)
        columns: list[Any] = [[move.uuid for move in ordered], [move.state for move in ordered]]
        columns += [[move.changes[name] for move in ordered] for name in names]
        with connection.cursor() as cursor:
            cursor.execute(_move_statement(names, corrections=corrections), columns)
            return [found for (found,) in cursor.fetchall()]


def _move_statement(names: Sequence[str], *, corrections: bool) -> str:
    types = [Command._meta.get_field(name).db_type(connection) for name in names]
    allowed = f"(command.state, move.state) IN ({_pairs(COMMAND_STATES.edges)})"
    if corrections:
        corrected = f"(command.state, move.state) IN ({_pairs(COMMAND_STATES.corrections)})"
        unanswered = f"(command.state <> '{CommandState.FAILED}' OR command.unanswered)"
        allowed = f"({allowed} OR {corrected} AND {unanswered})"
    return f"""
        UPDATE devices_command AS command
        SET {", ".join(f"{name} = move.{name}" for name in ["state", *names])}
        FROM unnest(%s::uuid[], %s::text[]{"".join(f", %s::{each}[]" for each in types)})
            AS move ({", ".join(["uuid", "state", *names])})
        WHERE command.uuid = move.uuid AND {allowed}
        RETURNING command.uuid
    """  # noqa: S608 (made of the model's columns and the graph's states)


def _pairs(ways: Mapping[str, Collection[str]]) -> str:
    return ", ".join(
        f"('{source}', '{target}')" for source, targets in ways.items() for target in targets
    )
