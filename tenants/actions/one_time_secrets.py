"""Show a new secret once: post, redirect, show.

The request that makes a secret answers with a redirect to the page that shows it, so a reload
makes no second one. A row of its own and not the session: a session is written as a whole, so
another request at the same moment could lose the secret or bring it back.
"""

from dataclasses import dataclass, field
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Model
from django.views.decorators.debug import sensitive_variables

from tenants.audit.owners import owner_of
from tenants.audit.writer import record_action
from tenants.models import Action, OneTimeSecret, User
from tenants.rules import secrets


@dataclass(frozen=True)
class RevealedSecret:
    """A secret and the primary key of the row that it belongs to."""

    row_id: str
    secret: str = field(repr=False)


@sensitive_variables("secret")
def store_secret(secret: str, row: Model, *, to: User) -> UUID:
    """Store the secret of a new row, encrypted; return the id under which `to` opens it once."""
    kept = OneTimeSecret.objects.create(
        user=to,
        row_type=row._meta.label_lower,
        row_id=str(row.pk),
        encrypted=secrets.encrypt(secret, settings.FIELD_ENCRYPTION_KEYS),
    )
    return kept.pk


@transaction.atomic
def reveal_secret(secret_id: UUID, model: type[Model], *, to: User) -> RevealedSecret | None:
    """Remove the secret of a `model` and return it; None if it was shown, expired or is not
    theirs."""
    kept = (
        OneTimeSecret.objects.select_for_update()
        .filter(pk=secret_id, user=to, row_type=model._meta.label_lower)
        .first()
    )
    if kept is None:
        return None
    kept.delete()
    if kept.expired:
        return None
    row = model._default_manager.filter(pk=kept.row_id).first()
    owned = owner_of(model, kept.row_id)
    record_action(
        Action.SECRET_READ,
        tenant=owned.tenant if owned else None,
        by=to,
        # By its name: the key of an API token is the token's hash.
        target=f"{model._meta.verbose_name} {row or 'deleted meanwhile'}",
    )
    return RevealedSecret(kept.row_id, kept.secret)
