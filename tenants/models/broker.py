"""What the broker is told of a tenant: its account, its signing keys, its credentials."""

from datetime import datetime
from typing import Self

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from natsbridge.identity.usernames import username_of
from tenants.models.owners import Tenant
from tenants.models.people import TenantOwnedQuerySet, User
from tenants.rules import secrets


class BrokerAccount(models.Model):
    """A tenant's account on the broker: what `ingest.{public_key}.>` in a subject stands for."""

    tenant = models.OneToOneField(
        Tenant, primary_key=True, on_delete=models.CASCADE, related_name="broker_account"
    )
    public_key = models.CharField(max_length=56, unique=True)
    # When what the rows say of this account last changed; what is newer than `provisioned_at`
    # waits to be pushed.
    wanted_at = models.DateTimeField(default=timezone.now, editable=False)
    # The account's claims as of this moment are accepted, and its stream exists.
    provisioned_at = models.DateTimeField(null=True, blank=True)
    # The server's words when the last attempt failed.
    last_error = models.TextField(blank=True)
    # This tenant's own limits; empty: those of the settings. -1: unlimited.
    max_connections = models.IntegerField(null=True, blank=True)
    max_subscriptions = models.IntegerField(null=True, blank=True)
    max_payload_bytes = models.IntegerField(null=True, blank=True)
    storage_bytes = models.BigIntegerField(null=True, blank=True)
    # Held by ourselves, as the broker knows no devices.
    max_devices = models.IntegerField(null=True, blank=True)

    def __str__(self) -> str:
        return f"account of {self.tenant}"

    @property
    def waits(self) -> bool:
        """Something of it is yet to be pushed to the broker."""
        return self.provisioned_at is None or self.wanted_at > self.provisioned_at

    @property
    def state(self) -> str:
        """How it stands: failed, waiting, suspended (the broker lets nobody of it in), or
        provisioned."""
        if self.last_error:
            return "failed"
        if self.waits:
            return "waiting"
        return "suspended" if self.tenant.suspended_at else "provisioned"


class BrokerKey(models.Model):
    """An NKey pair that signs; its seed is encrypted with FIELD_ENCRYPTION_KEY."""

    class Purpose(models.TextChoices):
        OPERATOR = "operator", "Operator"
        SYSTEM = "system", "System account"
        PLATFORM = "platform", "Platform account"
        ACCOUNT = "account", "Tenant account"
        DEVICE = "device", "Scoped: devices"
        TENANT = "tenant", "Scoped: tenant credential"
        CALLOUT = "callout", "Auth callout account"
        CALLOUT_USER = "callout-u", "Auth callout user"
        CALLOUT_XKEY = "callout-x", "Auth callout encryption"

    purpose = models.CharField(max_length=10, choices=Purpose.choices)
    tenant = models.ForeignKey(
        Tenant, null=True, blank=True, on_delete=models.CASCADE, related_name="broker_keys"
    )
    public_key = models.CharField(max_length=56, unique=True)
    seed_encrypted = models.TextField()
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    # Set when a newer key has taken its place: until then what it signed is good as well.
    retires_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["purpose", "tenant"],
                condition=models.Q(retires_at=None),
                name="one_current_broker_key",
                nulls_distinct=False,
            )
        ]

    def __str__(self) -> str:
        return f"{self.get_purpose_display()} {self.public_key[:8]}…"

    @property
    def seed(self) -> str:
        return secrets.decrypt(self.seed_encrypted, settings.FIELD_ENCRYPTION_KEYS)


class CredentialQuerySet(TenantOwnedQuerySet["Credential"]):
    def live(self) -> Self:
        """Those that still open the broker."""
        now = timezone.now()
        return self.filter(
            Q(ends_at=None) | Q(ends_at__gt=now),
            Q(expires_at=None) | Q(expires_at__gt=now),
            ended_at=None,
        )

    def spent(self, since: datetime) -> Self:
        """Those that neither open the broker any more nor void anything, for as long as that. A
        JWT that ended voids itself at the broker until its own `exp`: without one, for ever."""
        return self.filter(
            Q(kind=Credential.Kind.JWT, expires_at__lt=since)
            | Q(kind=Credential.Kind.PASSWORD, ended_at__lt=since)
        )


class Credential(models.Model):
    """One secret that opens the broker, from its issue to its end. The secret itself is not here:
    of a JWT the public key of its user, of a password its keyed hash."""

    class Kind(models.TextChoices):
        JWT = "jwt", "JWT"
        PASSWORD = "password", "Password"

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="credentials")
    # Empty: the tenant's own credential. No foreign key, as this app knows no devices.
    device_uuid = models.UUIDField(null=True, blank=True, editable=False)
    kind = models.CharField(max_length=8, choices=Kind.choices)
    public_key = models.CharField(max_length=56, blank=True)
    digest = models.CharField(max_length=64, unique=True, null=True, editable=False)
    # A JWT's `iat` is this moment, in whole seconds.
    issued_at = models.DateTimeField(default=timezone.now)
    issued_by = models.ForeignKey(
        User, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    first_used_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    # The JWT's own `exp`.
    expires_at = models.DateTimeField(null=True, blank=True)
    # Set by a rotation: the end of the overlap. It ends earlier once a newer one has been used.
    ends_at = models.DateTimeField(null=True, blank=True)
    # Since then it is void: revoked, or at the end of its overlap.
    ended_at = models.DateTimeField(null=True, blank=True)
    ended_by = models.ForeignKey(
        User, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    # Whoever it was: a person, or at the command line the operating system's user.
    ended_by_name = models.CharField(max_length=200, blank=True, editable=False)
    end_reason = models.CharField(max_length=300, blank=True)

    objects = CredentialQuerySet.as_manager()

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["tenant", "device_uuid"], name="credential_of"),
            models.Index(fields=["public_key"], name="credential_by_key"),
            models.Index(fields=["ends_at"], name="credential_ending", condition=Q(ended_at=None)),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} of {self.username}"

    @property
    def state(self) -> str:
        """live; ending, through an overlap; expired; ended; or suspended, while its tenant is and
        it would open the broker otherwise. Expects `tenant` to be loaded where many are shown."""
        now = timezone.now()
        if self.ended_at or (self.ends_at and self.ends_at <= now):
            return "ended"
        if self.expires_at and self.expires_at <= now:
            return "expired"
        if self.tenant.suspended_at:
            return "suspended"
        return "ending" if self.ends_at else "live"

    def before(self) -> CredentialQuerySet:
        """Those of the same owner and kind that are older and still open the broker."""
        older = Credential.objects.live().filter(pk__lt=self.pk)
        return older.filter(tenant=self.tenant_id, device_uuid=self.device_uuid, kind=self.kind)

    @property
    def username(self) -> str:
        """What a password login gives as its user."""
        return username_of(self.tenant_id, self.device_uuid)
