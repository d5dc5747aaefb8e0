"""What the bridge keeps in the database: messages it could not use, and its own state."""

from django.db import models
from django.utils import timezone


class ParkedMessage(models.Model):
    """A message that could not be used, whole, with the reason. Bounded: the oldest make room."""

    id = models.BigAutoField(primary_key=True)
    parked_at = models.DateTimeField(default=timezone.now)
    received_at = models.DateTimeField()
    subject = models.CharField(max_length=512)
    headers = models.JSONField(default=dict)
    body = models.BinaryField()
    # A word to count and filter by, and a sentence to read.
    reason = models.CharField(max_length=40, db_index=True)
    detail = models.TextField()
    deliveries = models.PositiveIntegerField(default=1)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.reason}: {self.subject}"


class SubscriberStatus(models.Model):
    """What one running subscriber says of itself, every 5 seconds."""

    instance = models.CharField(max_length=128, primary_key=True)
    started_at = models.DateTimeField()
    beat_at = models.DateTimeField()
    connected = models.BooleanField()
    details = models.JSONField(default=dict)

    class Meta:
        verbose_name_plural = "subscriber statuses"

    def __str__(self) -> str:
        return self.instance


class Coverage(models.Model):
    """One row: when some subscriber last listened, and the latest time when none did."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    last_beat = models.DateTimeField()
    gap_started = models.DateTimeField(null=True)
    gap_ended = models.DateTimeField(null=True)

    class Meta:
        verbose_name_plural = "coverage"
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="one_coverage_row")]

    def __str__(self) -> str:
        return f"last heard at {self.last_beat}"
