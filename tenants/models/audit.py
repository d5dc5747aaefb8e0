"""The audit: one row for each event, in a hash chain so that a later change shows."""

from dataclasses import dataclass
from datetime import datetime
from typing import Self
from uuid import UUID

from django.db import models
from django.utils import timezone

from tenants.models.owners import Tenant
from tenants.models.people import Person, TenantOwnedQuerySet, User


class Action(models.TextChoices):
    """What can happen. The part before the dot names what it happens to."""

    BROKER_LOGIN = "broker.login", "Broker: logged in"
    BROKER_REFUSED = "broker.refused", "Broker: login refused"
    BROKER_DISCONNECTED = "broker.disconnected", "Broker: disconnected"
    BROKER_FLOODED = "broker.flooded", "Broker: disconnected for sending too much"
    BROKER_LIMITED = "broker.limited", "Broker: disconnected, too many connections of a device"
    CALLOUT_REJECTED = "broker.callout_rejected", "Broker: callout request rejected"
    CREDENTIAL_ISSUED = "credential.issued", "Credential issued"
    CREDENTIAL_ROTATED = "credential.rotated", "Credential rotated"
    CREDENTIAL_REVOKED = "credential.revoked", "Credential revoked"
    CREDENTIAL_ENDED = "credential.ended", "Credential ended"
    KEYS_ROTATED = "keys.rotated", "Signing keys rotated"
    TENANT_CREATED = "tenant.created", "Tenant created"
    TENANT_CHANGED = "tenant.changed", "Tenant changed"
    TENANT_SUSPENDED = "tenant.suspended", "Tenant suspended"
    TENANT_RESUMED = "tenant.resumed", "Tenant resumed"
    TENANT_LIMITS = "tenant.limits_changed", "Tenant limits changed"
    TENANT_MIGRATED = "tenant.migrated", "Tenant marked as migrated, or no longer"
    EXPORT_REQUESTED = "export.requested", "Export of a tenant requested"
    EXPORT_DOWNLOADED = "export.downloaded", "Export of a tenant downloaded"
    PLACE_CREATED = "place.created", "Organisation or group created"
    PLACE_RENAMED = "place.renamed", "Organisation or group renamed"
    PLACE_DELETED = "place.deleted", "Organisation or group deleted"
    PERSON_CREATED = "person.created", "Person created"
    PERSON_CHANGED = "person.changed", "Person changed"
    PERSON_DELETED = "person.deleted", "Person deleted"
    PERSON_LOGIN = "person.login", "Person logged in"
    PERSON_LOGIN_FAILED = "person.login_failed", "Person's login failed"
    SESSION_ENDED = "session.ended", "Session ended"
    MEMBERSHIP_SET = "membership.set", "Membership set"
    MEMBERSHIP_REMOVED = "membership.removed", "Membership removed"
    API_TOKEN_CREATED = "api_token.created", "API token created"
    API_TOKEN_REVOKED = "api_token.revoked", "API token revoked"
    ENROLMENT_KEY_CREATED = "enrolment_key.created", "Enrolment key created"
    ENROLMENT_KEY_REVOKED = "enrolment_key.revoked", "Enrolment key revoked"
    DEVICE_REGISTERED = "device.registered", "Device registered"
    DEVICE_UPGRADED = "device.upgraded", "Device upgraded"
    DEVICE_UPGRADE_UNDONE = "device.upgrade_undone", "Device: upgrade undone"
    DEVICE_RENAMED = "device.renamed", "Device renamed"
    DEVICE_MOVED = "device.moved", "Device moved"
    DEVICE_TAGGED = "device.tagged", "Device's tags changed"
    DEVICE_FIELDS = "device.fields_changed", "Device's fields changed"
    DEVICE_ARCHIVED = "device.archived", "Device archived"
    DEVICE_UNARCHIVED = "device.unarchived", "Device unarchived"
    NOTE_ADDED = "note.added", "Note added"
    NOTE_DELETED = "note.deleted", "Note deleted"
    TAG_CREATED = "tag.created", "Tag created"
    TAG_RENAMED = "tag.renamed", "Tag renamed"
    TAG_DELETED = "tag.deleted", "Tag deleted"
    FIELD_CREATED = "custom_field.created", "Custom field created"
    FIELD_CHANGED = "custom_field.changed", "Custom field changed"
    FIELD_DELETED = "custom_field.deleted", "Custom field deleted"
    DEVICE_REVOKED = "device.revoked", "Device revoked"
    DEVICE_REINSTATED = "device.reinstated", "Device reinstated"
    DEVICE_DELETED = "device.deleted", "Device deleted"
    COMMAND_ISSUED = "command.issued", "Command issued"
    COMMAND_CANCELLED = "command.cancelled", "Command cancelled"
    COMMAND_RETRIED = "command.retried", "Command retried"
    BULK_ISSUED = "bulk_command.issued", "Bulk command issued"
    BULK_CANCELLED = "bulk_command.cancelled", "Bulk command cancelled"
    BULK_RETRIED = "bulk_command.retried", "Bulk command retried"
    API_REFUSED = "api.refused", "API: token or key refused"
    SERVICE_PAUSED = "service.paused", "Service paused"
    SERVICE_RESUMED = "service.resumed", "Service resumed"
    ACCESS_REFUSED = "access.refused", "Access refused"
    SECRET_READ = "access.secret_read", "Secret shown"
    STAFF_READ = "access.staff_read", "Staff of the platform read data"
    AUDIT_EXPORTED = "audit.exported", "Audit exported"
    AUDIT_PRUNED = "audit.pruned", "Audit pruned"


# These belong to no tenant: they happen to the platform, or to a person in any number of tenants.
PLATFORM_ACTIONS = frozenset(
    {
        Action.CALLOUT_REJECTED,
        Action.PERSON_CREATED,
        Action.PERSON_CHANGED,
        Action.PERSON_DELETED,
        Action.PERSON_LOGIN,
        Action.PERSON_LOGIN_FAILED,
        Action.SESSION_ENDED,
        Action.API_TOKEN_CREATED,
        Action.API_TOKEN_REVOKED,
        Action.SERVICE_PAUSED,
        Action.SERVICE_RESUMED,
        Action.AUDIT_PRUNED,
    }
)
TENANT_ACTION_CHOICES = [
    (action.value, action.label) for action in Action if action not in PLATFORM_ACTIONS
]


class ActorKind(models.TextChoices):
    PERSON = "person", "Person"
    DEVICE = "device", "Device"
    CREDENTIAL = "credential", "Tenant credential"
    PLATFORM = "platform", "Platform"
    UNKNOWN = "unknown", "Unknown"


@dataclass(frozen=True)
class AuditFilter:
    """Selects entries; None or an empty value selects all. `until` itself is excluded."""

    action: str = ""
    actor: str = ""
    device: UUID | None = None
    since: datetime | None = None
    until: datetime | None = None

    def described(self) -> dict[str, str]:
        return {name: str(value) for name, value in vars(self).items() if value}


class AuditEntryQuerySet(TenantOwnedQuerySet["AuditEntry"]):
    tenant_path = "tenant_uuid"

    def managed_by(self, person: Person) -> Self:
        """Return all entries for staff who manage the platform, and none for others."""
        return self if isinstance(person, User) and person.manages_platform else self.none()

    def of_tenant(self, tenant: Tenant) -> Self:
        return self.filter(tenant_uuid=tenant.pk)

    def matching(self, wanted: AuditFilter) -> Self:
        conditions = {
            "action": wanted.action,
            "actor": wanted.actor,
            "device_uuid": wanted.device,
            "at__gte": wanted.since,
            "at__lt": wanted.until,
        }
        return self.filter(**{name: value for name, value in conditions.items() if value})


class AuditEntry(models.Model):
    """One event of the audit, written by `tenants.audit.writer` and sealed soon after.

    It stores names and not foreign keys, so it outlives what it tells about.
    """

    id = models.BigAutoField(primary_key=True)
    at = models.DateTimeField(default=timezone.now)
    tenant_uuid = models.UUIDField(null=True)
    action = models.CharField(max_length=40, choices=Action.choices)
    actor_kind = models.CharField(max_length=10, choices=ActorKind.choices)
    # A person's name, a device's uuid, a username; `actor_id` is a person's primary key.
    actor = models.CharField(max_length=200, blank=True)
    actor_id = models.CharField(max_length=64, blank=True)
    device_uuid = models.UUIDField(null=True)
    # What it happened to, such as "device anna-laptop".
    target = models.CharField(max_length=300, blank=True)
    address = models.CharField(max_length=64, blank=True)
    # api, admin, web, command line, broker, subscriber.
    via = models.CharField(max_length=16, blank=True)
    # Equal events within a minute are one row with a count.
    count = models.PositiveIntegerField(default=1)
    detail = models.JSONField(default=dict)
    # Set when it is sealed: its place in the hash chain, and the HMAC over this row and the seal
    # before it.
    sequence = models.BigIntegerField(null=True, unique=True)
    seal = models.CharField(max_length=64, blank=True)

    objects = AuditEntryQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "audit entries"
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["tenant_uuid", "-id"], name="audit_of_tenant"),
            models.Index(fields=["device_uuid", "-id"], name="audit_of_device"),
            models.Index(fields=["at"], name="audit_at"),
            models.Index(fields=["id"], name="audit_unsealed", condition=models.Q(sequence=None)),
        ]

    def __str__(self) -> str:
        return f"{self.get_action_display()}: {self.target or self.actor}"


class AuditAnchor(models.Model):
    """A signed checkpoint of the hash chain: its newest seal, or the last one that was pruned.

    An anchor carries an HMAC of its own, and is also written to AUDIT_ANCHORS_FILE.
    """

    class Kind(models.TextChoices):
        HEAD = "head", "Head"
        PRUNED = "pruned", "Pruned up to here"

    kind = models.CharField(max_length=6, choices=Kind.choices)
    sequence = models.BigIntegerField()
    seal = models.CharField(max_length=64)
    made_at = models.DateTimeField(default=timezone.now)
    mac = models.CharField(max_length=64)
    # Whether it was written to the file. If so, the file must still have it.
    in_file = models.BooleanField(default=False)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["-sequence"], name="audit_anchor_newest")]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.sequence}"
