import uuid
from typing import Self

from django.db import models
from django.utils import timezone

from devices.presence import Cutoffs, Status
from tenants.models import Group, Tenant, TenantOwnedQuerySet, User, hash_token


class DeviceQuerySet(TenantOwnedQuerySet["Device"]):
    def holding_token(self, token: str) -> Self:
        """The device whose own token this is, if it is any's."""
        return self.filter(token_digest=hash_token(token))

    def with_status(self, status: Status, cutoffs: Cutoffs) -> Self:
        """The devices that `cutoffs.status_of` calls `status`."""
        seen = "connectivity__last_seen_online"
        if cutoffs.blind:
            return self if status is Status.UNKNOWN else self.none()
        match status:
            case Status.ONLINE:
                return self.filter(**{f"{seen}__gte": cutoffs.online_since})
            case Status.OFFLINE:
                return self.exclude(**{f"{seen}__gte": cutoffs.offline_before})
        between = self.filter(
            **{f"{seen}__gte": cutoffs.offline_before, f"{seen}__lt": cutoffs.online_since}
        )
        if status is Status.UNKNOWN:
            return between.filter(**{f"{seen}__lt": cutoffs.unknown_before})
        return between.filter(**{f"{seen}__gte": cutoffs.unknown_before})


class Device(models.Model):
    """A computer with an agent. `tenant` is always its group's: the database holds it to that."""

    uuid = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    tenant = models.ForeignKey(
        Tenant, on_delete=models.CASCADE, related_name="devices", editable=False
    )
    group = models.ForeignKey(Group, on_delete=models.CASCADE, related_name="devices")
    name = models.CharField(max_length=255)
    # The public half of the agent's NKey; the private half never leaves the computer.
    nkey_public = models.CharField(max_length=56, unique=True, null=True, editable=False)
    token_digest = models.CharField(max_length=64, unique=True, null=True, editable=False)
    hardware_info = models.JSONField(default=dict, blank=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    # While set, neither its credentials nor its token open anything.
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    revoked_by = models.ForeignKey(
        User, null=True, blank=True, on_delete=models.SET_NULL, related_name="+", editable=False
    )
    revoked_reason = models.CharField(max_length=300, blank=True, editable=False)

    objects = DeviceQuerySet.as_manager()

    class Meta:
        ordering = ["name", "uuid"]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: object, **kwargs: object) -> None:
        self.tenant_id = self.group.tenant_id
        super().save(*args, **kwargs)  # type: ignore[arg-type]
