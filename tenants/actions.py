"""What people and the platform can do here. These functions are this app's only writers."""

from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F
from django.utils import timezone

from natsbridge import claims
from tenants import secrets
from tenants.errors import EnrollmentRefused, StillInUse
from tenants.models import (
    ApiToken,
    BrokerAccount,
    BrokerKey,
    EnrollmentKey,
    Group,
    Membership,
    Organisation,
    Role,
    Tenant,
    User,
    hash_token,
)

# The channel on which a subscriber hears that an account's claims want pushing.
ACCOUNTS_CHANNEL = "wegweiser_accounts"


@transaction.atomic
def create_tenant(*, name: str) -> Tenant:
    """A tenant with its broker account; a running subscriber provisions it at the broker."""
    tenant = Tenant.objects.create(name=name)
    ensure_broker_account(tenant)
    return tenant


@transaction.atomic
def create_organisation(tenant: Tenant, *, name: str) -> Organisation:
    return Organisation.objects.create(tenant=tenant, name=name)


@transaction.atomic
def create_group(organisation: Organisation, *, name: str) -> Group:
    return Group.objects.create(organisation=organisation, name=name)


@transaction.atomic
def rename(owner: Tenant | Organisation | Group, *, name: str) -> None:
    owner.name = name
    owner.save(update_fields=["name"])


@transaction.atomic
def delete_unused(place: Organisation | Group) -> None:
    """Raises StillInUse while devices are in it: they would go with it."""
    groups = place.groups.all() if isinstance(place, Organisation) else [place]
    if any(group.devices.exists() for group in groups):
        raise StillInUse(f"{place} still has devices; move or delete them first.")
    place.delete()


@transaction.atomic
def set_membership(user: User, tenant: Tenant, role: Role) -> Membership:
    membership, _ = Membership.objects.update_or_create(
        user=user, tenant=tenant, defaults={"role": role}
    )
    return membership


def remove_membership(membership: Membership) -> None:
    membership.delete()


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


@transaction.atomic
def ensure_broker_account(tenant: Tenant) -> BrokerAccount:
    """The tenant's account with its identity key and both scoped keys; what is missing is made."""
    for purpose in (BrokerKey.Purpose.ACCOUNT, BrokerKey.Purpose.DEVICE, BrokerKey.Purpose.TENANT):
        ensure_broker_key(purpose, tenant)
    identity = BrokerKey.objects.get(purpose=BrokerKey.Purpose.ACCOUNT, tenant=tenant)
    account, created = BrokerAccount.objects.get_or_create(
        tenant=tenant, defaults={"public_key": identity.public_key}
    )
    if created:
        announce_account(tenant)
    return account


@transaction.atomic
def ensure_broker_key(purpose: BrokerKey.Purpose, tenant: Tenant | None = None) -> BrokerKey:
    existing = BrokerKey.objects.filter(purpose=purpose, tenant=tenant).first()
    if existing:
        return existing
    pair = claims.generate("operator" if purpose is BrokerKey.Purpose.OPERATOR else "account")
    return BrokerKey.objects.create(
        purpose=purpose,
        tenant=tenant,
        public_key=pair.public,
        seed_encrypted=secrets.encrypt(pair.seed, settings.FIELD_ENCRYPTION_KEYS),
    )


def ensure_platform_keys() -> dict[BrokerKey.Purpose, BrokerKey]:
    """The operator's, the system account's and the platform account's keys."""
    purposes = (BrokerKey.Purpose.OPERATOR, BrokerKey.Purpose.SYSTEM, BrokerKey.Purpose.PLATFORM)
    return {purpose: ensure_broker_key(purpose) for purpose in purposes}


def announce_account(tenant: Tenant) -> None:
    """Wakes the subscribers once the caller's transaction is committed."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, %s)", [ACCOUNTS_CHANNEL, str(tenant.pk)])


def record_provisioned(tenant: Tenant) -> None:
    BrokerAccount.objects.filter(tenant=tenant).update(provisioned_at=timezone.now(), last_error="")


def record_provisioning_failed(tenant: Tenant, error: str) -> None:
    BrokerAccount.objects.filter(tenant=tenant).update(last_error=error)
