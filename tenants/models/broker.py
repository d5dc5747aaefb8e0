"""A tenant at the broker: its account, its signing keys, its credentials."""

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
    """A tenant's account at the broker; its public key is the one in `ingest.{public_key}.>`."""

    tenant = models.OneToOneField(
        Tenant, primary_key=True, on_delete=models.CASCADE, related_name="broker_account"
    )
    public_key = models.CharField(max_length=56, unique=True)
    # When the rows behind the account's claims last changed. A change after `provisioned_at` is
    # pending: it has not been pushed yet.
    wanted_at = models.DateTimeField(default=timezone.now, editable=False)
    # The broker has the claims as of this moment, and the tenant's stream exists.
    provisioned_at = models.DateTimeField(null=True, blank=True)
    # The server's error message, if the last attempt failed.
    last_error = models.TextField(blank=True)
    # Limits of this tenant alone. Empty: the default of the settings. -1: no limit.
    max_connections = models.IntegerField(null=True, blank=True)
    max_subscriptions = models.IntegerField(null=True, blank=True)
    max_payload_bytes = models.IntegerField(null=True, blank=True)
    storage_bytes = models.BigIntegerField(null=True, blank=True)
    # Enforced here, since the broker does not know devices.
    max_devices = models.IntegerField(null=True, blank=True)

    def __str__(self) -> str:
        return f"account of {self.tenant}"

    @property
    def waits(self) -> bool:
        """Return whether a change of the account is pending at the broker."""
        return self.provisioned_at is None or self.wanted_at > self.provisioned_at

    @property
    def state(self) -> str:
        """Return failed, waiting, suspended (the broker refuses everybody) or provisioned."""
        if self.last_error:
            return "failed"
        if self.waits:
            return "waiting"
        return "suspended" if self.tenant.suspended_at else "provisioned"


class BrokerKey(models.Model):
    """A signing NKey pair. Its seed is encrypted with FIELD_ENCRYPTION_KEY."""

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
    # Set when a newer key has replaced it. What it signed stays valid until then.
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
        """Return the credentials that are valid at the broker."""
        now = timezone.now()
        return self.filter(
            Q(ends_at=None) | Q(ends_at__gt=now),
            Q(expires_at=None) | Q(expires_at__gt=now),
            ended_at=None,
        )

    def spent(self, since: datetime) -> Self:
        """Return those that have served no purpose since then.

        A JWT that has ended is still needed until its own `exp`, since the account's claims have to
        revoke it: one without `exp` is needed for ever.
        """
        return self.filter(
            Q(kind=Credential.Kind.JWT, expires_at__lt=since)
            | Q(kind=Credential.Kind.PASSWORD, ended_at__lt=since)
        )


class Credential(models.Model):
    """A credential for the broker, from its issue to its end.

    The secret itself is not stored: of a JWT there is the user's public key, of a password a keyed
    hash.
    """

    class Kind(models.TextChoices):
        JWT = "jwt", "JWT"
        PASSWORD = "password", "Password"

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="credentials")
    # Empty: the tenant's own credential. Not a foreign key, since this app does not know devices.
    device_uuid = models.UUIDField(null=True, blank=True, editable=False)
    kind = models.CharField(max_length=8, choices=Kind.choices)
    public_key = models.CharField(max_length=56, blank=True)
    digest = models.CharField(max_length=64, unique=True, null=True, editable=False)
    # In whole seconds it is the `iat` of a JWT.
    issued_at = models.DateTimeField(default=timezone.now)
    issued_by = models.ForeignKey(
        User, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    first_used_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    # The `exp` of a JWT.
    expires_at = models.DateTimeField(null=True, blank=True)
    # The end of a rotation's overlap. It ends earlier once a newer one has been used.
    ends_at = models.DateTimeField(null=True, blank=True)
    # When it was revoked, replaced, or its overlap was over.
    ended_at = models.DateTimeField(null=True, blank=True)
    ended_by = models.ForeignKey(
        User, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    # A person's name, or the operating system's user at the command line.
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
        """Return live, ending (during an overlap), expired, ended, or suspended with its tenant.

        Load `tenant` with the rows where many are shown.
        """
        now = timezone.now()
        if self.ended_at or (self.ends_at and self.ends_at <= now):
            return "ended"
        if self.expires_at and self.expires_at <= now:
            return "expired"
        if self.tenant.suspended_at:
            return "suspended"
        return "ending" if self.ends_at else "live"

    def before(self) -> CredentialQuerySet:
        """Return the older credentials of the same owner and kind that are still valid."""
        older = Credential.objects.live().filter(pk__lt=self.pk)
        return older.filter(tenant=self.tenant_id, device_uuid=self.device_uuid, kind=self.kind)

    @property
    def username(self) -> str:
        """The name of its user at the broker."""
        return username_of(self.tenant_id, self.device_uuid)
