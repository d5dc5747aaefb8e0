"""What people record about devices: tags, custom fields and notes."""

import uuid

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Lower
from django.utils import timezone

from devices.inventory.rules import FieldType
from devices.models.device import Device
from tenants.models import Tenant, TenantOwnedQuerySet, User
from tenants.names import NameField

FIELD_TYPES = [(each.value, each.value.capitalize()) for each in FieldType]


class Tag(models.Model):
    uuid = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="tags")
    name = NameField(max_length=50)

    objects = TenantOwnedQuerySet["Tag"].as_manager()

    class Meta:
        ordering = ["name", "uuid"]
        constraints = [
            models.UniqueConstraint("tenant", Lower("name"), name="tag_name_in_tenant"),
            # A foreign key of DeviceTag refers to this pair; see the migration.
            models.UniqueConstraint(fields=["uuid", "tenant"], name="tag_with_tenant"),
        ]

    def __str__(self) -> str:
        return self.name


class DeviceTag(models.Model):
    """A tag on a device. Both are of one tenant, as database constraints ensure."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="+")
    # The unique constraint has an index that begins with it.
    device = models.ForeignKey(Device, on_delete=models.CASCADE, related_name="+", db_index=False)
    tag = models.ForeignKey(Tag, on_delete=models.CASCADE, related_name="+")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["device", "tag"], name="tag_once_on_a_device")
        ]

    def __str__(self) -> str:
        return f"{self.tag_id} on {self.device_id}"


class CustomField(models.Model):
    """A field that a tenant has defined for its devices, which hold its values."""

    uuid = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="custom_fields")
    name = NameField(max_length=50)
    # Not changed later: the values are of this type.
    type = models.CharField(max_length=6, choices=FIELD_TYPES)
    # What a field of the type `choice` may hold.
    choices = ArrayField(models.CharField(max_length=100), default=list, blank=True)

    objects = TenantOwnedQuerySet["CustomField"].as_manager()

    class Meta:
        ordering = ["name", "uuid"]
        constraints = [
            models.UniqueConstraint("tenant", Lower("name"), name="custom_field_name_in_tenant")
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def key(self) -> str:
        """The name of its values in `Device.custom_values`."""
        return str(self.pk)


class NoteQuerySet(TenantOwnedQuerySet["Note"]):
    tenant_path = "device__tenant"


class Note(models.Model):
    """What a person wrote about a device; one in the device's log of notes."""

    uuid = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    device = models.ForeignKey(Device, on_delete=models.CASCADE, related_name="notes")
    text = models.TextField(max_length=4000)
    author = models.ForeignKey(
        User, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    # It outlives the author's account.
    author_name = models.CharField(max_length=200)
    created_at = models.DateTimeField(default=timezone.now)

    objects = NoteQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "-uuid"]
        indexes = [models.Index(fields=["device", "-created_at", "-uuid"], name="notes_of_device")]

    def __str__(self) -> str:
        return f"note on {self.device_id}"
