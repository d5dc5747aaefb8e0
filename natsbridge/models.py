"""The tables of this package: dead letters, and the state of the service and of pruning."""

from typing import Any, Self, TypeVar

from django.db import models
from django.utils import timezone

Row = TypeVar("Row", bound=models.Model)


class PlatformQuerySet(models.QuerySet[Row]):
    """Rows of the platform, which belong to no tenant."""

    def managed_by(self, person: Any) -> Self:
        """Return all rows for staff who may view or change them in the admin, for others none."""
        meta = self.model._meta
        names = (f"{meta.app_label}.{verb}_{meta.model_name}" for verb in ("view", "change"))
        return self if person.is_staff and any(map(person.has_perm, names)) else self.none()


class DeadLetter(models.Model):
    """A message that could not be used, with the reason, copied from the dead-letter queue.

    `sequence` and `dead_lettered_at` are those of the message in that queue.
    """

    class State(models.TextChoices):
        WAITING = "waiting"
        REPLAYED = "replayed"
        DISCARDED = "discarded"

    id = models.BigAutoField(primary_key=True)
    sequence = models.BigIntegerField(null=True)
    dead_lettered_at = models.DateTimeField("dead-lettered at", default=timezone.now)
    state = models.CharField(max_length=10, choices=State, default=State.WAITING)
    resolved_at = models.DateTimeField(null=True)
    resolved_by = models.CharField(max_length=150, blank=True)
    replay_requested_at = models.DateTimeField(null=True)
    replay_requested_by = models.CharField(max_length=150, blank=True)
    # The part of the subscriber that could not use it.
    source = models.CharField(max_length=60, blank=True)
    received_at = models.DateTimeField()
    subject = models.CharField(max_length=512)
    # From the subject; empty where it does not name them.
    account = models.CharField(max_length=56, blank=True)
    tenant = models.UUIDField(null=True, db_index=True)
    device = models.UUIDField(null=True, db_index=True)
    kind = models.CharField(max_length=64, blank=True, db_index=True)
    headers = models.JSONField(default=dict)
    body = models.BinaryField()
    # The size of a body that was cut, else 0.
    whole_size = models.PositiveIntegerField(default=0)
    # A word to count and filter by, and a sentence to read.
    reason = models.CharField(max_length=40, db_index=True)
    detail = models.TextField()
    attempts = models.PositiveIntegerField(default=1)

    objects = PlatformQuerySet["DeadLetter"].as_manager()

    class Meta:
        # Named before dead letters were called so.
        db_table = "natsbridge_parkedmessage"
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["sequence", "dead_lettered_at"], name="one_row_a_dead_letter"
            )
        ]
        indexes = [
            models.Index(
                fields=["replay_requested_at"],
                name="replays_to_do",
                condition=models.Q(state="waiting", replay_requested_at__isnull=False),
            )
        ]

    def __str__(self) -> str:
        return f"{self.reason}: {self.subject}"


class SubscriberStatus(models.Model):
    """The status that one running subscriber writes every 5 seconds."""

    instance = models.CharField(max_length=128, primary_key=True)
    started_at = models.DateTimeField()
    beat_at = models.DateTimeField()
    connected = models.BooleanField()
    # It has finished what it had read, and reads no more until the service is resumed.
    paused = models.BooleanField(default=False)
    details = models.JSONField(default=dict)

    objects = PlatformQuerySet["SubscriberStatus"].as_manager()

    class Meta:
        verbose_name_plural = "subscriber statuses"

    def __str__(self) -> str:
        return self.instance


class Pause(models.Model):
    """One row while the service is paused: subscribers read no reports and deliver no commands."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    since = models.DateTimeField(default=timezone.now)
    by = models.CharField(max_length=200)
    reason = models.CharField(max_length=300, blank=True)

    class Meta:
        verbose_name_plural = "pause"
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="one_pause_row")]

    def __str__(self) -> str:
        return f"paused by {self.by}"


class Coverage(models.Model):
    """One row: when a subscriber last listened to the broker, and the latest gap in that."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    last_beat = models.DateTimeField()
    gap_started = models.DateTimeField(null=True)
    gap_ended = models.DateTimeField(null=True)

    class Meta:
        verbose_name_plural = "coverage"
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="one_coverage_row")]

    def __str__(self) -> str:
        return f"last heard at {self.last_beat}"


class Pruning(models.Model):
    """One row: the last run of `natsbridge.retention.engine`.

    `outcome` has, by kind, how many `rows` were deleted, and the `problem` if it failed.
    """

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    began_at = models.DateTimeField()
    finished_at = models.DateTimeField()
    outcome = models.JSONField(default=dict)

    class Meta:
        verbose_name_plural = "pruning"
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="one_pruning_row")]

    def __str__(self) -> str:
        return f"pruned at {self.finished_at}"

    @property
    def rows(self) -> int:
        return sum(each["rows"] for each in self.outcome.values())

    @property
    def problems(self) -> dict[str, str]:
        return {name: each["problem"] for name, each in self.outcome.items() if each["problem"]}
