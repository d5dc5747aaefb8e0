"""Requests that their callers may send again for the same outcome."""

from datetime import timedelta

from django.db import models
from django.utils import timezone

IDEMPOTENCY_LIFETIME = timedelta(hours=24)


class IdempotentRequest(models.Model):
    """A request with an Idempotency-Key: a keyed hash of what it asked for, and the outcome.

    The answer itself is not stored, since it may contain a secret.
    """

    # A person or an enrolment key; each has keys of its own.
    caller = models.CharField(max_length=60)
    key = models.CharField(max_length=100)
    digest = models.CharField(max_length=64)
    # The command, bulk command or device; empty only inside the transaction that makes it.
    outcome = models.UUIDField(null=True)
    at = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["caller", "key"], name="idempotency_key")]

    def __str__(self) -> str:
        return f"{self.key} of {self.caller}"
