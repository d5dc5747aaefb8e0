"""API tokens and enrolment keys."""

from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from tenants import secrets
from tenants.errors import EnrollmentRefused
from tenants.models import ApiToken, EnrollmentKey, Group, Role, User, hash_token


@transaction.atomic
def create_api_token(
    user: User, *, name: str, role: Role, expires_at: datetime | None
) -> tuple[ApiToken, str]:
    """The token in plain text is in this answer and nowhere else."""
    expiry = expires_at - timezone.now() if expires_at else None
    return ApiToken.objects.create(user=user, expiry=expiry, name=name, role=role)


def revoke_api_token(token: ApiToken) -> None:
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
    """The key in plain text is in this answer and nowhere else."""
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
    return key, plain


def revoke_enrollment_key(key: EnrollmentKey) -> None:
    EnrollmentKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=timezone.now())


def redeem_enrollment_key(plain: str, group_uuid: UUID) -> EnrollmentKey:
    """Counts one use, in the caller's transaction. Raises EnrollmentRefused with the reason."""
    found = find_enrollment_key(plain, group_uuid)
    if found.refusal:
        raise EnrollmentRefused(found.refusal)
    counted = EnrollmentKey.objects.usable().filter(pk=found.pk).update(uses=F("uses") + 1)
    if not counted:
        found.refresh_from_db()
        raise EnrollmentRefused(found.refusal)
    return found


def find_enrollment_key(plain: str, group_uuid: UUID) -> EnrollmentKey:
    """The key, of which `refusal` says whether it opens anything. Raises EnrollmentRefused when
    there is none."""
    found = (
        EnrollmentKey.objects.select_related("group__organisation")
        .filter(digest=hash_token(plain), group=group_uuid)
        .first()
    )
    if found is None:
        raise EnrollmentRefused("The enrolment key is wrong, or is not one of this group.")
    return found
