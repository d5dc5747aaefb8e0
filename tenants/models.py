"""Who owns what: people, tenants, their groups, and the keys that open them."""

import uuid
from typing import ClassVar, Self, TypeVar

from django.conf import settings
from django.contrib.auth.models import AbstractUser, AnonymousUser
from django.db import models
from django.db.models import Q
from django.utils import timezone
from knox.models import AbstractAuthToken

from tenants import secrets


class User(AbstractUser):  # type: ignore[django-manager-missing]  # knox has no types
    """A person who logs in; what they may do in a tenant is their Membership."""


class Role(models.TextChoices):
    """What a member may do; each role may also do what the ones before it may."""

    VIEWER = "viewer", "Viewer"
    OPERATOR = "operator", "Operator"
    ADMIN = "admin", "Admin"

    @property
    def rank(self) -> int:
        return list(Role).index(self)

    def includes(self, needed: "Role") -> bool:
        return self.rank >= needed.rank

    @classmethod
    def at_least(cls, needed: "Role") -> list["Role"]:
        return [role for role in cls if role.includes(needed)]


Person = User | AnonymousUser


Row = TypeVar("Row", bound=models.Model)


class TenantOwnedQuerySet(models.QuerySet[Row]):
    """Rows of one tenant each. Views and the API reach them only through `visible_to`."""

    tenant_path: ClassVar[str] = "tenant"

    def visible_to(self, person: Person, role: Role = Role.VIEWER) -> Self:
        """The rows of the tenants in which `person` has at least `role`."""
        if not isinstance(person, User):
            return self.none()
        # Asked of the database, since a websocket's `person` may be hours old.
        allowed = Membership.objects.filter(
            user=person, user__is_active=True, role__in=Role.at_least(role)
        )
        return self.filter(**{f"{self.tenant_path}__in": allowed.values("tenant")})


class TenantQuerySet(TenantOwnedQuerySet["Tenant"]):
    tenant_path = "pk"


class Tenant(models.Model):
    uuid = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=200, unique=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = TenantQuerySet.as_manager()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Organisation(models.Model):
    uuid = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="organisations")
    name = models.CharField(max_length=200)

    objects = TenantOwnedQuerySet["Organisation"].as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "name"], name="organisation_name_in_tenant"),
            # What a group's own tenant is checked against; see the migration.
            models.UniqueConstraint(fields=["uuid", "tenant"], name="organisation_with_tenant"),
        ]

    def __str__(self) -> str:
        return self.name


class Group(models.Model):
    """A set of devices of one organisation; `tenant` is always the organisation's."""

    uuid = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    tenant = models.ForeignKey(
        Tenant, on_delete=models.CASCADE, related_name="groups", editable=False
    )
    organisation = models.ForeignKey(Organisation, on_delete=models.CASCADE, related_name="groups")
    name = models.CharField(max_length=200)

    objects = TenantOwnedQuerySet["Group"].as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(fields=["organisation", "name"], name="group_name_in_org"),
            models.UniqueConstraint(fields=["uuid", "tenant"], name="group_with_tenant"),
        ]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: object, **kwargs: object) -> None:
        self.tenant_id = self.organisation.tenant_id
        super().save(*args, **kwargs)  # type: ignore[arg-type]


class Membership(models.Model):
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role.choices, default=Role.VIEWER)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "tenant"], name="one_membership_in_tenant")
        ]

    def __str__(self) -> str:
        return f"{self.user} in {self.tenant}: {self.role}"


class ApiToken(AbstractAuthToken):
    """A person's key to the API; its role caps the person's own in each tenant."""

    name = models.CharField(max_length=100)
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


class EnrollmentKey(models.Model):
    """Buys registrations into one group until it expires, is revoked or is used up."""

    group = models.ForeignKey(Group, on_delete=models.CASCADE, related_name="enrollment_keys")
    name = models.CharField(max_length=100)
    # The first characters, so that a person can tell which key this was.
    hint = models.CharField(max_length=12, editable=False)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    uses = models.PositiveIntegerField(default=0, editable=False)
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
        """Why this key opens nothing now; empty when it does."""
        if self.revoked_at:
            return "The enrolment key was revoked."
        if self.expires_at and self.expires_at <= timezone.now():
            return "The enrolment key has expired."
        if self.max_uses is not None and self.uses >= self.max_uses:
            return "The enrolment key is used up."
        return ""


class BrokerAccount(models.Model):
    """A tenant's account on the broker: what `ingest.{public_key}.>` in a subject stands for."""

    tenant = models.OneToOneField(
        Tenant, primary_key=True, on_delete=models.CASCADE, related_name="broker_account"
    )
    public_key = models.CharField(max_length=56, unique=True)
    # Set once the account's claims are accepted and its stream exists.
    provisioned_at = models.DateTimeField(null=True, blank=True)
    # The server's words when the last attempt failed.
    last_error = models.TextField(blank=True)

    def __str__(self) -> str:
        return f"account of {self.tenant}"


class BrokerKey(models.Model):
    """An NKey pair that signs; its seed is encrypted with FIELD_ENCRYPTION_KEY."""

    class Purpose(models.TextChoices):
        OPERATOR = "operator", "Operator"
        SYSTEM = "system", "System account"
        PLATFORM = "platform", "Platform account"
        ACCOUNT = "account", "Tenant account"
        DEVICE = "device", "Scoped: devices"
        TENANT = "tenant", "Scoped: tenant credential"

    purpose = models.CharField(max_length=10, choices=Purpose.choices)
    tenant = models.ForeignKey(
        Tenant, null=True, blank=True, on_delete=models.CASCADE, related_name="broker_keys"
    )
    public_key = models.CharField(max_length=56, unique=True)
    seed_encrypted = models.TextField()
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["purpose", "tenant"], name="one_broker_key", nulls_distinct=False
            )
        ]

    def __str__(self) -> str:
        return f"{self.get_purpose_display()} {self.public_key[:8]}…"

    @property
    def seed(self) -> str:
        return secrets.decrypt(self.seed_encrypted, settings.FIELD_ENCRYPTION_KEYS)


def hash_token(token: str) -> str:
    """How this installation stores tokens that it must recognise but never show again."""
    return secrets.digest(token, settings.TOKEN_HASH_KEY)


def role_in(person: Person, tenant_id: uuid.UUID) -> Role | None:
    if not isinstance(person, User):
        return None
    membership = Membership.objects.filter(user=person, tenant=tenant_id).first()
    return Role(membership.role) if membership else None
