"""Tenants, with the organisations and groups to which devices belong."""

import uuid
from typing import Self

from django.db import models
from django.utils import timezone

from tenants.models.people import Person, TenantOwnedQuerySet, User
from tenants.names import NameField


class TenantQuerySet(TenantOwnedQuerySet["Tenant"]):
    tenant_path = "pk"

    def managed_by(self, person: Person) -> Self:
        """Return all tenants for staff who may change tenants in the admin, for others none."""
        return self if isinstance(person, User) and person.manages_platform else self.none()


class Tenant(models.Model):
    uuid = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = NameField(max_length=200, unique=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    # While set, the broker refuses every login of the tenant, and the API its devices' tokens.
    suspended_at = models.DateTimeField(null=True, blank=True, editable=False)
    suspended_by = models.ForeignKey(
        User, null=True, blank=True, on_delete=models.SET_NULL, related_name="+", editable=False
    )
    # A person's name, or the operating system's user at the command line.
    suspended_by_name = NameField(max_length=200, blank=True, editable=False)
    suspended_reason = models.CharField(max_length=300, blank=True, editable=False)
    # Set when all its devices that were registered elsewhere have come over.
    migrated_at = models.DateTimeField(null=True, blank=True, editable=False)
    migrated_by_name = NameField(max_length=200, blank=True, editable=False)

    objects = TenantQuerySet.as_manager()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Organisation(models.Model):
    uuid = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="organisations")
    name = NameField(max_length=200)

    objects = TenantOwnedQuerySet["Organisation"].as_manager()

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "name"], name="organisation_name_in_tenant"),
            # A foreign key of groups refers to this pair; see the migration.
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
    name = NameField(max_length=200)

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
