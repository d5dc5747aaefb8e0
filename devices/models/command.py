import uuid
from typing import Self

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from devices.commands.rules.states import COMMAND_STATES, HANDED_OVER, WrongGraph
from devices.models.bulk import BulkCommand
from devices.models.device import Device
from devices.models.fields import WrittenJSONField
from devices.presence.rules import Cutoffs, Status
from tenants.models import TenantOwnedQuerySet


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


class CommandQuerySet(TenantOwnedQuerySet["Command"]):
    tenant_path = "device__tenant"

    def that_may_become(self, state: CommandState) -> Self:
        return self.filter(state__in=COMMAND_STATES.sources_of(state))

    def handed_to_offline_devices(self, cutoffs: Cutoffs) -> Self:
        """Those that were sent and have not ended, on devices that are offline now."""
        offline = Device.objects.with_status(Status.OFFLINE, cutoffs)
        return self.filter(state__in=HANDED_OVER, device__in=offline)


class Command(models.Model):
    """One thing one device was told to do. Its state changes by `become`, or in bulk from
    `that_may_become`, and in no other way."""

    id = models.BigAutoField(primary_key=True)
    uuid = models.UUIDField(unique=True, default=uuid.uuid4, editable=False)
    device = models.ForeignKey(Device, on_delete=models.CASCADE, related_name="commands")
    command = models.CharField(max_length=100)
    parameters = models.JSONField(default=dict)
    state = models.CharField(
        max_length=10, choices=CommandState.choices, default=CommandState.QUEUED
    )
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    # Issued by the platform itself, which needs nobody's permission.
    by_platform = models.BooleanField(default=False)
    bulk = models.ForeignKey(
        BulkCommand,
        null=True,
        on_delete=models.SET_NULL,
        related_name="commands",
        db_index=False,
    )
    # The command whose content it has, where it was issued to try again.
    repeats = models.ForeignKey(
        "self", null=True, on_delete=models.SET_NULL, related_name="repetitions"
    )
    created_at = models.DateTimeField(default=timezone.now)
    # Not sent by then: expired. Sent and still open then: failed, no response.
    deadline = models.DateTimeField()
    sends = models.PositiveSmallIntegerField(default=0)
    sent_at = models.DateTimeField(null=True)
    delivered_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    result = WrittenJSONField(null=True)
    # How many bytes the result had, where it is larger than what is kept of it.
    result_cut_from = models.PositiveBigIntegerField(null=True)
    error = models.TextField(blank=True)
    # It failed without a response, so one that comes late corrects it.
    unanswered = models.BooleanField(default=False, db_default=False)
    # Sent twice with the same key by the same person, it is issued once.
    idempotency_key = models.CharField(max_length=100, blank=True, default="", db_default="")

    objects = CommandQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["bulk", "device"],
                name="one_command_of_bulk_on_device",
                condition=Q(bulk__isnull=False),
            ),
            models.UniqueConstraint(
                fields=["created_by", "idempotency_key"],
                name="command_issued_once",
                condition=~Q(idempotency_key=""),
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
            # What the sweep looks for, in a table that keeps months of what has ended.
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

    def says(self, other: "Command") -> bool:
        """Whether both tell the same device the same thing, for the same reason."""
        return (self.device_id, self.command, self.parameters, self.repeats_id) == (
            other.device_id,
            other.command,
            other.parameters,
            other.repeats_id,
        )

    def become(self, state: CommandState) -> None:
        """Without saving it. Raises NoSuchTransition."""
        COMMAND_STATES.check(self.state, state)
        self.state = state
