"""What the actions of this app raise. The messages are for people."""


class TenantsError(Exception):
    """Base of all errors of this app."""


class EncryptionKeyMissing(TenantsError):
    """FIELD_ENCRYPTION_KEY is not set, or not the one that encrypted the value."""


class EnrollmentRefused(TenantsError):
    """The enrolment key is wrong, expired, revoked or used up."""


class NotProvisioned(TenantsError):
    """A broker key does not exist yet."""


class NameTaken(TenantsError):
    """Another tenant, organisation or group has this name already."""


class AlreadyMember(TenantsError):
    """The person is a member of the tenant already."""


class LastAdmin(TenantsError):
    """A tenant would be left without an admin."""


class StillInUse(TenantsError):
    """What should be deleted still has devices, or messages."""


class CredentialRefused(TenantsError):
    """No credential is issued: the tenant is suspended, or the device is revoked."""


class RotationRefused(TenantsError):
    """Another rotation was faster, or its overlap is still running."""


class IdempotencyKeyReused(TenantsError):
    """An idempotency key comes with a different request than before."""


class LimitRefused(TenantsError):
    """A limit has an unknown name, or a value out of range."""


class PowerMissing(TenantsError):
    """Somebody would give or take a right that they lack."""


class TenantSuspended(TenantsError):
    """Nobody can log in to the account of a suspended tenant."""


class NoSuchStream(TenantsError):
    """No stream or consumer has that name."""


class MigrationRefused(TenantsError):
    """A tenant is not marked as migrated: some of its devices have not come over."""


class ExportRefused(TenantsError):
    """An export cannot be requested or downloaded now."""
