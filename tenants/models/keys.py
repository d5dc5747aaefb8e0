"""API tokens of people, and enrolment keys: named, revocable, and stored as hashes."""

from datetime import datetime
from typing import Self

from django.conf import settings
from django.db import models
from django.db.models import Q, QuerySet
from django.db.models.functions import Coalesce
from django.utils import timezone
from knox.models import AbstractAuthToken, AuthTokenManager

from tenants.models.owners import Group
from tenants.models.people import Person, Role, TenantOwnedQuerySet, User
from tenants.names import NameField
from tenants.rules import secrets


def hash_token(token: str) -> str:
    """Return the keyed hash under which a token is stored: it is recognised, but never shown."""
    return secrets.digest(token, settings.TOKEN_HASH_KEY)


class ApiTokenManager(AuthTokenManager):
    def visible_to(self, person: Person, role: Role = Role.VIEWER) -> QuerySet["ApiToken"]:
        """Return the person's own tokens."""
        own: QuerySet[ApiToken] = self.filter(user=person) if person.pk else self.none()
        return own


class ApiToken(AbstractAuthToken):
    """A person's token for the API. Its role caps the person's own in each tenant."""

    objects = ApiTokenManager()

    name = NameField(max_length=100)
    role = models.CharField(max_length=10, choices=Role.choices, default=Role.VIEWER)

    class Meta:
        verbose_name = "API token"

    def __str__(self) -> str:
        return f"{self.name} ({self.token_key}…)"


class EnrollmentKeyQuerySet(TenantOwnedQuerySet["EnrollmentKey"]):
    tenant_path = "group__tenant"

    def usable(self) -> Self:
        now = timezone.now()
        return self.filter(
            Q(expires_at=None) | Q(expires_at__gt=now),
            Q(max_uses=None) | Q(uses__lt=models.F("max_uses")),
            revoked_at=None,
        )

    def spent(self, since: datetime) -> Self:
        """Return the keys that have been revoked, expired or used up since before then."""
        used_up = Q(uses__gte=models.F("max_uses"), used_at__lt=since)
        return self.alias(used_at=Coalesce("last_used_at", "created_at")).filter(
            Q(revoked_at__lt=since) | Q(expires_at__lt=since) | used_up
        )


class EnrollmentKey(models.Model):
    """Allows devices to register in one group until it expires, is revoked or is used up."""

    group = models.ForeignKey(Group, on_delete=models.CASCADE, related_name="enrollment_keys")
    name = NameField(max_length=100)
    # The first characters, by which a person recognises the key.
    hint = models.CharField(max_length=12, editable=False)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    uses = models.PositiveIntegerField(default=0, editable=False)
    last_used_at = models.DateTimeField(null=True, editable=False)
    max_uses = models.PositiveIntegerField(
        null=True, blank=True, default=1, help_text="Empty: any number of registrations."
    )
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Empty: never.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    created_by = models.ForeignKey(
        User, null=True, blank=True, on_delete=models.SET_NULL, related_name="+", editable=False
    )
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = EnrollmentKeyQuerySet.as_manager()

    class Meta:
        verbose_name = "enrolment key"
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.name} ({self.hint}…)"

    @property
    def refusal(self) -> str:
        """Return why this key is refused now, or an empty string while it is valid."""
        if self.revoked_at:
            return "The enrolment key was revoked."
        if self.expires_at and self.expires_at <= timezone.now():
            return "The enrolment key has expired."
        if self.max_uses is not None and self.uses >= self.max_uses:
            return "The enrolment key is used up."
        return ""
