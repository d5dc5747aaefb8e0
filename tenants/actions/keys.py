"""Create and revoke API tokens and enrolment keys."""

from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from tenants.actions import powers
from tenants.audit.writer import record_action
from tenants.errors import EnrollmentRefused
from tenants.models import Action, ApiToken, EnrollmentKey, Group, Role, User, hash_token
from tenants.rules import secrets


@transaction.atomic
def create_api_token(
    user: User, *, name: str, role: Role, expires_at: datetime | None, by: User | None = None
) -> tuple[ApiToken, str]:
    """Return the new token and its plain text, which is stored nowhere. Raises PowerMissing."""
    powers.require_cover(by, user)
    expiry = expires_at - timezone.now() if expires_at else None
    token, plain = ApiToken.objects.create(user=user, expiry=expiry, name=name, role=role)
    _record_token(Action.API_TOKEN_CREATED, token, by)
    return token, plain


@transaction.atomic
def revoke_api_token(token: ApiToken, *, by: User | None = None) -> None:
    """Delete the token. Raises PowerMissing."""
    powers.require_cover(by, token.user)
    _record_token(Action.API_TOKEN_REVOKED, token, by)
    token.delete()


@transaction.atomic
def create_enrollment_key(
    group: Group,
    *,
    name: str,
    max_uses: int | None = 1,
    expires_at: datetime | None = None,
    created_by: User | None = None,
) -> tuple[EnrollmentKey, str]:
    """Return the new key and its plain text, which is stored nowhere."""
    plain = secrets.new_token("wge")
    key = EnrollmentKey.objects.create(
        group=group,
        name=name,
        hint=plain[:12],
        digest=hash_token(plain),
        max_uses=max_uses,
        expires_at=expires_at,
        created_by=created_by,
    )
    uses = "any number" if max_uses is None else max_uses
    expiry = expires_at.isoformat() if expires_at else "never"
    _record_key(Action.ENROLMENT_KEY_CREATED, key, created_by, max_uses=uses, expires_at=expiry)
    return key, plain


@transaction.atomic
def revoke_enrollment_key(key: EnrollmentKey, *, by: User | None = None) -> None:
    usable = EnrollmentKey.objects.filter(pk=key.pk, revoked_at=None)
    if usable.update(revoked_at=timezone.now()):
        _record_key(Action.ENROLMENT_KEY_REVOKED, key, by, uses=key.uses)


def redeem_enrollment_key(plain: str, group_uuid: UUID) -> EnrollmentKey:
    """Count one use, in the caller's transaction. Raises EnrollmentRefused with the reason."""
    found = find_enrollment_key(plain, group_uuid)
    if found.refusal:
        raise EnrollmentRefused(found.refusal)
    counted = (
        EnrollmentKey.objects.usable()
        .filter(pk=found.pk)
        .update(uses=F("uses") + 1, last_used_at=timezone.now())
    )
    if not counted:
        found.refresh_from_db()
        raise EnrollmentRefused(found.refusal)
    return found


def find_enrollment_key(plain: str, group_uuid: UUID) -> EnrollmentKey:
    """Return the group's key, valid or not; see its `refusal`. Raises EnrollmentRefused if the
    group has no such key."""
    found = (
        EnrollmentKey.objects.select_related("group__organisation")
        .filter(digest=hash_token(plain), group=group_uuid)
        .first()
    )
    if found is None:
        raise EnrollmentRefused("The enrolment key is wrong, or belongs to another group.")
    return found


def _record_token(action: Action, token: ApiToken, by: User | None) -> None:
    expiry = token.expiry.isoformat() if token.expiry else "never"
    record_action(
        action,
        tenant=None,
        by=by,
        target=f"API token {token.name} of {token.user.get_username()}",
        detail={"role": token.role, "expires_at": expiry},
    )


def _record_key(action: Action, key: EnrollmentKey, by: User | None, **detail: object) -> None:
    record_action(
        action,
        tenant=key.group.tenant_id,
        by=by,
        target=f"enrolment key {key.name} of group {key.group.name}",
        detail={"key": key.pk, **detail},
    )
