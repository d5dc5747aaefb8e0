import uuid
from datetime import datetime
from typing import Self

from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import Q
from django.db.models.fields.json import KeyTextTransform, KeyTransform
from django.db.models.functions import Left
from django.utils import timezone

from devices.models.fields import WrittenJSONField
from devices.presence.rules import Current, Cutoffs, Known, Presence, Status, current
from tenants.models import Group, Person, Tenant, TenantOwnedQuerySet, User, hash_token
from tenants.names import NameField

SYSTEM_INFO = KeyTransform("system_info", "connectivity__connection_info")


class RegistrationProof(models.Model):
    """The newest timestamp with which a key pair has signed a registration.

    It outlives the device, so that nobody who recorded a registration can replay it after the
    device was deleted.
    """

    nkey_public = models.CharField(max_length=56, primary_key=True)
    timestamp = models.BigIntegerField()

    def __str__(self) -> str:
        return f"{self.nkey_public} at {self.timestamp}"


class DeviceQuerySet(TenantOwnedQuerySet["Device"]):
    def holding_token(self, token: str) -> Self:
        """Return the device that has this token, if any."""
        return self.filter(token_digest=hash_token(token))

    def in_fleet(self) -> Self:
        """Return the devices that are not archived."""
        return self.filter(archived_at=None)

    def as_listed(self) -> Self:
        """Load what lists show of each device, of its own report only `said_…`, and its tags."""
        return (
            self.select_related("connectivity", "tenant", "group__organisation")
            .defer("hardware_info", "connectivity__capabilities", "connectivity__connection_info")
            .prefetch_related("tags")
            .annotate(
                **{
                    f"said_{name}": Left(KeyTextTransform(name, SYSTEM_INFO), 100)
                    for name in ("hostname", "platform", "platform_version")
                }
            )
        )

    def managed_by(self, person: Person) -> Self:
        """Return all devices for staff who may view devices in the admin, and none for others."""
        if isinstance(person, User) and person.is_active and person.is_staff:
            return self if person.has_perm("devices.view_device") else self.none()
        return self.none()

    def offering(self, command: str) -> Self:
        """Return devices whose agent names the command, or names no commands at all."""
        said = "connectivity__capabilities"
        undescribed = Q(**{f"{said}__commands__isnull": True}) | Q(**{f"{said}__commands": []})
        unnamed = Q(**{f"{said}__tools__isnull": True}) | Q(**{f"{said}__tools": []})
        return self.filter(
            Q(connectivity__isnull=True)
            | Q(**{f"{said}__commands__contains": [{"name": command}]})
            | undescribed & (unnamed | Q(**{f"{said}__tools__contains": command}))
        )

    def with_status(self, status: Status, cutoffs: Cutoffs) -> Self:
        """Return the devices for which `Device.status` is this one."""
        if cutoffs.blind:
            return self if status is Status.UNKNOWN else self.none()
        return self.filter(_conditions(cutoffs)[status])


def named_status(cutoffs: Cutoffs) -> models.Case | models.Value:
    """Return an expression for what `Device.status` returns."""
    if cutoffs.blind:
        return models.Value(Status.UNKNOWN.value)
    cases = (
        models.When(condition, then=models.Value(status.value))
        for status, condition in _conditions(cutoffs).items()
    )
    return models.Case(*cases)


def _conditions(cutoffs: Cutoffs) -> dict[Status, Q]:
    """Return when a device has which status, by the cutoffs of a subscriber that listens."""
    seen = "connectivity__last_seen_online"
    gone = Q(connectivity__presence=Presence.OFFLINE)
    there = Q(revoked_at=None) & ~gone
    between = there & Q(
        **{f"{seen}__gte": cutoffs.offline_before, f"{seen}__lt": cutoffs.online_since}
    )
    silent = ~Q(**{f"{seen}__gte": cutoffs.offline_before})
    return {
        Status.ONLINE: there & Q(**{f"{seen}__gte": cutoffs.online_since}),
        Status.STALE: between & Q(**{f"{seen}__gte": cutoffs.unknown_before}),
        Status.UNKNOWN: between & Q(**{f"{seen}__lt": cutoffs.unknown_before}),
        Status.OFFLINE: Q(revoked_at__isnull=False) | gone | silent,
    }


class Device(models.Model):
    """A computer with an agent. Its tenant is its group's, as a database constraint ensures."""

    uuid = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    tenant = models.ForeignKey(
        Tenant, on_delete=models.CASCADE, related_name="devices", editable=False
    )
    group = models.ForeignKey(Group, on_delete=models.CASCADE, related_name="devices")
    name = NameField(max_length=255)
    # The public half of the agent's NKey; the private half never leaves the computer.
    nkey_public = models.CharField(max_length=56, unique=True, null=True, editable=False)
    token_digest = models.CharField(max_length=64, unique=True, null=True, editable=False)
    # When the token was first used; empty for a new one.
    token_used_at = models.DateTimeField(null=True, editable=False)
    hardware_info = WrittenJSONField(default=dict, blank=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    # While set, neither its credentials nor its token are valid.
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    revoked_by = models.ForeignKey(
        User, null=True, blank=True, on_delete=models.SET_NULL, related_name="+", editable=False
    )
    # A user, or at the command line the user of the operating system.
    revoked_by_name = models.CharField(max_length=200, blank=True, editable=False)
    revoked_reason = models.CharField(max_length=300, blank=True, editable=False)
    # Out of the fleet, and revoked too. Equal to `revoked_at` if archiving revoked it.
    archived_at = models.DateTimeField(null=True, blank=True, editable=False)
    archived_by_name = models.CharField(max_length=200, blank=True, editable=False)
    archived_reason = models.CharField(max_length=300, blank=True, editable=False)
    tags = models.ManyToManyField(
        "devices.Tag", through="devices.DeviceTag", related_name="devices", editable=False
    )
    # By the uuid of the CustomField, as `inventory.rules.read_value` returns them.
    custom_values = models.JSONField(default=dict, blank=True, editable=False)

    objects = DeviceQuerySet.as_manager()

    class Meta:
        ordering = ["name", "uuid"]
        constraints = [
            # A foreign key of tags refers to this pair; see the migration.
            models.UniqueConstraint(fields=["uuid", "tenant"], name="device_with_tenant"),
            # So whatever a revoked device may not do, an archived one may not do either.
            models.CheckConstraint(
                condition=Q(archived_at=None) | Q(revoked_at__isnull=False),
                name="archived_device_is_revoked",
            ),
        ]
        indexes = [
            GinIndex(
                fields=["custom_values"], name="device_custom_values", opclasses=["jsonb_path_ops"]
            )
        ]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: object, **kwargs: object) -> None:
        self.tenant_id = self.group.tenant_id
        super().save(*args, **kwargs)  # type: ignore[arg-type]

    @property
    def tag_names(self) -> list[str]:
        return [tag.name for tag in self.tags.all()]

    @property
    def refusal(self) -> str:
        """Why it may not connect or enrol, for people; empty if it may."""
        if self.archived_at:
            return "This device is archived; an admin of its tenant can unarchive it."
        if self.revoked_at:
            return "This device is revoked; an admin of its tenant can undo it."
        return ""

    def status(self, cutoffs: Cutoffs) -> Status:
        """Return the device's status. Load `connectivity` with the devices where there are many.

        A revoked device is offline at once, without a grace.
        """
        connectivity = getattr(self, "connectivity", None)
        if connectivity is None:
            return cutoffs.status_of(None)
        gone = self.revoked_at is not None or connectivity.presence == Presence.OFFLINE
        return cutoffs.status_of(connectivity.last_seen_online, gone=gone)

    def is_connected(self, cutoffs: Cutoffs) -> bool:
        """Return whether it is online and not in the grace after a disconnect."""
        connectivity = getattr(self, "connectivity", None)
        leaving = connectivity is not None and connectivity.offline_due_at is not None
        return not leaving and self.status(cutoffs) is Status.ONLINE

    def current_presence(self, cutoffs: Cutoffs) -> Current:
        """Return the presence that agrees with `status`."""
        connectivity = getattr(self, "connectivity", None)
        known = connectivity.known if connectivity else Known()
        return current(self.status(cutoffs), known, self.revoked_at)

    def offline_since(self, cutoffs: Cutoffs) -> datetime | None:
        """Return since when it is offline, or None if it is not."""
        shown = self.current_presence(cutoffs)
        return shown.since or self.created_at if shown.presence is Presence.OFFLINE else None
