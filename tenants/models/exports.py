"""Exports of a tenant's data, which a subscriber makes and admins download."""

import uuid
from typing import Self

from django.db import models
from django.utils import timezone

from tenants.models.owners import Tenant
from tenants.models.people import TenantOwnedQuerySet, User


class TenantExportQuerySet(TenantOwnedQuerySet["TenantExport"]):
    def due(self) -> Self:
        """Return those that are to be made, or whose making was interrupted, the oldest first."""
        pending = [TenantExport.State.REQUESTED, TenantExport.State.RUNNING]
        return self.filter(state__in=pending).order_by("requested_at", "pk")

    def downloadable(self) -> Self:
        return self.filter(state=TenantExport.State.READY, expires_at__gt=timezone.now())


class TenantExport(models.Model):
    """An export from its request until it expires. Its content is in ExportChunk, compressed, since
    the database is all that every web server and subscriber share."""

    class State(models.TextChoices):
        REQUESTED = "requested", "Requested"
        RUNNING = "running", "Running"
        READY = "ready", "Ready"
        FAILED = "failed", "Failed"

    uuid = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="exports")
    requested_at = models.DateTimeField(default=timezone.now, editable=False)
    requested_by = models.ForeignKey(
        User, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    requested_by_name = models.CharField(max_length=200, blank=True)
    state = models.CharField(max_length=9, choices=State.choices, default=State.REQUESTED)
    # How often its making began.
    attempts = models.PositiveSmallIntegerField(default=0)
    finished_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    row_count = models.PositiveBigIntegerField(default=0)
    # Of the compressed file.
    size_bytes = models.PositiveBigIntegerField(default=0)
    error = models.CharField(max_length=300, blank=True)

    objects = TenantExportQuerySet.as_manager()

    class Meta:
        ordering = ["-requested_at", "-uuid"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant"],
                condition=models.Q(state__in=["requested", "running"]),
                name="one_pending_export",
            )
        ]

    def __str__(self) -> str:
        return f"export of {self.tenant} at {self.requested_at}"

    @property
    def is_pending(self) -> bool:
        return self.state in (self.State.REQUESTED, self.State.RUNNING)

    @property
    def is_downloadable(self) -> bool:
        expires = self.expires_at
        return self.state == self.State.READY and expires is not None and expires > timezone.now()


class ExportChunk(models.Model):
    """A piece of an export's file."""

    export = models.ForeignKey(TenantExport, on_delete=models.CASCADE, related_name="chunks")
    number = models.PositiveIntegerField()
    data = models.BinaryField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["export", "number"], name="one_chunk_of_export")
        ]

    def __str__(self) -> str:
        return f"chunk {self.number} of {self.export_id}"
