"""Senders that were disconnected from the broker for flooding it, and how long they are blocked."""

from typing import Self

from django.db import models
from django.db.models import Q
from django.utils import timezone

from tenants.models.owners import Tenant
from tenants.models.people import TenantOwnedQuerySet


class FloodBlockQuerySet(TenantOwnedQuerySet["FloodBlock"]):
    def in_force(self) -> Self:
        return self.filter(until__gt=timezone.now())

    def over(self) -> Self:
        """Return the blocks whose time is up, but which the broker's claims still carry."""
        return self.filter(until__lte=timezone.now(), lifted_at=None)


class FloodBlock(models.Model):
    """The floods of one sender. Without `until` it is not blocked.

    A sender is a device, or one user of a tenant credential, which many machines may share: known
    by its public key, or with a password by its address.
    """

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="flood_blocks")
    device_uuid = models.UUIDField(null=True, blank=True)
    public_key = models.CharField(max_length=56, blank=True)
    address = models.CharField(max_length=64, blank=True)
    at = models.DateTimeField()
    until = models.DateTimeField(null=True, blank=True)
    # Since then the broker's claims no longer block it.
    lifted_at = models.DateTimeField(null=True, blank=True)
    # Floods in a row, each soon after the one before.
    offences = models.PositiveIntegerField(default=1)
    messages_per_second = models.PositiveIntegerField()
    bytes_per_second = models.PositiveBigIntegerField()

    objects = FloodBlockQuerySet.as_manager()

    class Meta:
        ordering = ["-at"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "device_uuid", "public_key", "address"],
                name="one_flood_block_a_sender",
                nulls_distinct=False,
            )
        ]
        indexes = [
            models.Index(fields=["until"], name="flood_block_ending", condition=Q(lifted_at=None))
        ]

    def __str__(self) -> str:
        return f"flood by {self.device_uuid or self.public_key or self.address}"

    @property
    def is_in_force(self) -> bool:
        return self.until is not None and self.until > timezone.now()
