"""Devices that were registered elsewhere, on their way to NATS."""

import uuid
from typing import Self

from django.db import models
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from devices.models.device import Device
from tenants.models import Credential, Tenant, TenantOwnedQuerySet, User


class DeviceImport(models.Model):
    """One import of devices, which can be undone for those that have not logged in since."""

    uuid = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="device_imports")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    created_by = models.ForeignKey(
        User, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    # A person's name, or the operating system's user at the command line.
    created_by_name = models.CharField(max_length=200, blank=True)
    device_count = models.PositiveIntegerField()
    undone_at = models.DateTimeField(null=True, blank=True)

    objects = TenantOwnedQuerySet["DeviceImport"].as_manager()

    class Meta:
        ordering = ["-created_at", "-uuid"]

    def __str__(self) -> str:
        return f"import of {self.device_count} devices at {self.created_at}"


def logged_in() -> Q:
    """Select those whose connection type has become NATS, or whose credential has been used: the
    login may be recorded before the connection."""
    used = Credential.objects.filter(
        tenant=OuterRef("device__tenant"),
        device_uuid=OuterRef("device"),
        first_used_at__isnull=False,
    )
    return Q(device__connectivity__connection_type="nats") | Q(Exists(used))


class OnboardingQuerySet(TenantOwnedQuerySet["Onboarding"]):
    tenant_path = "device__tenant"

    def seen(self) -> Self:
        """Return those whose agent has logged in to the broker."""
        return self.filter(logged_in())

    def unseen(self) -> Self:
        return self.exclude(logged_in())

    def issued(self) -> Self:
        """Return those that hold what was issued to them, whether they have used it or not."""
        return self.exclude(issued_at=None)


class Onboarding(models.Model):
    """Where a device comes from that was registered elsewhere, and when it was issued a token or a
    credential to move to NATS."""

    device = models.OneToOneField(
        Device, primary_key=True, on_delete=models.CASCADE, related_name="onboarding"
    )
    # Its `connection_type` until its agent has logged in to the broker.
    came_from = models.CharField(max_length=20)
    imported = models.ForeignKey(
        DeviceImport, null=True, blank=True, on_delete=models.SET_NULL, related_name="onboardings"
    )
    issued_at = models.DateTimeField(null=True, blank=True)

    objects = OnboardingQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.device_id} from {self.came_from}"
