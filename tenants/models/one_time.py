"""New secrets, between the request that creates one and the page that shows it."""

from datetime import timedelta
from uuid import uuid4

from django.conf import settings
from django.db import models
from django.utils import timezone

from tenants.models.people import User
from tenants.rules import secrets

LIFETIME = timedelta(minutes=10)


class OneTimeSecret(models.Model):
    """A secret, encrypted, until the person who created it opens the page that shows it."""

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    # The row that the secret belongs to, whose page is the only one that shows it.
    row_type = models.CharField(max_length=100)
    row_id = models.TextField()
    encrypted = models.TextField()
    created_at = models.DateTimeField(default=timezone.now, editable=False, db_index=True)

    def __str__(self) -> str:
        return f"Secret of {self.row_type} {self.row_id}"

    @property
    def expired(self) -> bool:
        return self.created_at < timezone.now() - LIFETIME

    @property
    def secret(self) -> str:
        return secrets.decrypt(self.encrypted, settings.FIELD_ENCRYPTION_KEYS)
