import uuid

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.utils import timezone

from tenants.models import Tenant, TenantOwnedQuerySet
from tenants.rules.request_ids import MAX_LENGTH


class BulkCommandQuerySet(TenantOwnedQuerySet["BulkCommand"]):
    pass


class BulkCommand(models.Model):
    """One command to many devices of a tenant: who issued it, its targets and its deadline.

    The results are in its commands.
    """

    id = models.BigAutoField(primary_key=True)
    uuid = models.UUIDField(unique=True, default=uuid.uuid4, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="bulk_commands")
    command = models.CharField(max_length=100)
    parameters = models.JSONField(default=dict)
    # The target in words, and as it was chosen.
    target = models.CharField(max_length=300)
    selection = models.JSONField(default=dict)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(default=timezone.now)
    deadline = models.DateTimeField()
    # How many devices of the target get no command, by the reason.
    left_out = models.JSONField(default=dict)
    total = models.PositiveIntegerField(default=0)
    # The devices that have no row in `commands` yet; empty once it is expanded.
    waiting = ArrayField(models.UUIDField(), default=list)
    expanded_at = models.DateTimeField(null=True)
    cancelled_at = models.DateTimeField(null=True)
    retry_of = models.ForeignKey(
        "self", null=True, on_delete=models.SET_NULL, related_name="retries"
    )
    # As of each of its commands.
    request_id = models.CharField(max_length=MAX_LENGTH, blank=True, default="", db_default="")

    objects = BulkCommandQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["tenant", "-id"], name="bulk_command_of_tenant"),
            models.Index(
                fields=["id"], name="bulk_command_unexpanded", condition=Q(expanded_at__isnull=True)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.command} to {self.target}"
