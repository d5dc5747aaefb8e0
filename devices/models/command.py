import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from devices.models.device import Device
from tenants.models import TenantOwnedQuerySet


class CommandState(models.TextChoices):
    QUEUED = "queued", "Queued"
    SENT = "sent", "Sent"
    DELIVERED = "delivered", "Delivered"
    SUCCEEDED = "succeeded", "Succeeded"
    FAILED = "failed", "Failed"
    EXPIRED = "expired", "Expired"
    CANCELLED = "cancelled", "Cancelled"


OPEN_STATES = (CommandState.QUEUED, CommandState.SENT, CommandState.DELIVERED)

NO_RESPONSE = "no response"


class CommandQuerySet(TenantOwnedQuerySet["Command"]):
    tenant_path = "device__tenant"


class Command(models.Model):
    """One thing one device was told to do."""

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
    created_at = models.DateTimeField(default=timezone.now)
    # Not sent by then: expired. Sent and still open then: failed, no response.
    deadline = models.DateTimeField()
    sends = models.PositiveSmallIntegerField(default=0)
    sent_at = models.DateTimeField(null=True)
    delivered_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    result = models.JSONField(null=True)
    error = models.TextField(blank=True)

    objects = CommandQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["device", "-id"], name="command_history"),
            models.Index(
                fields=["device", "id"],
                name="command_open",
                condition=Q(state__in=["queued", "sent", "delivered"]),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.command} on {self.device_id}: {self.state}"

    @property
    def is_open(self) -> bool:
        return self.state in OPEN_STATES
