"""Make a request safe to send twice: the same key of the same caller has one outcome."""

import json
from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

from django.utils import timezone

from tenants.errors import IdempotencyKeyReused
from tenants.models import IdempotentRequest, User, hash_token
from tenants.models.idempotency import IDEMPOTENCY_LIFETIME


@dataclass(frozen=True)
class IdempotencyKey:
    """The key that a caller has given a request, and a digest of what the request asks for."""

    text: str
    digest: str

    @classmethod
    def of(cls, text: str, *asked: Any) -> Self:
        """Return the key of a request that asks for this, of which nothing can be read again."""
        return cls(text, hash_token(json.dumps(asked, sort_keys=True, default=str)))


def claim_of_person(person: User, key: IdempotencyKey | None) -> IdempotentRequest | None:
    """Claim a person's key; return None without one."""
    return claim(f"person {person.pk}", key) if key else None


def claim(caller: str, key: IdempotencyKey) -> IdempotentRequest:
    """Return the caller's request with this key, with its outcome if there was one within the last
    24 hours; else the caller's transaction has to `finish` it.

    Wait for another transaction with the same key. Raise IdempotencyKeyReused.
    """
    now = timezone.now()
    known = IdempotentRequest.objects.filter(caller=caller, key=key.text)
    known.filter(at__lt=now - IDEMPOTENCY_LIFETIME).delete()
    new = IdempotentRequest(caller=caller, key=key.text, digest=key.digest, at=now)
    IdempotentRequest.objects.bulk_create([new], ignore_conflicts=True)
    found = known.get()
    if found.digest != key.digest:
        raise IdempotencyKeyReused(
            f'The Idempotency-Key "{key.text}" was used for a different request within the last 24 '
            "hours; send this one with a new key."
        )
    return found


def finish(claimed: IdempotentRequest | None, outcome: UUID) -> None:
    """Store the outcome of the request, in the transaction that claimed its key."""
    if claimed is not None:
        claimed.outcome = outcome
        claimed.save(update_fields=["outcome"])
