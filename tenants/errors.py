"""What the actions of this app raise; the message is fit to show to a person."""


class TenantsError(Exception):
    """Base of all errors of this app."""


class EncryptionKeyMissing(TenantsError):
    """FIELD_ENCRYPTION_KEY is not set, or not the one that encrypted the value."""


class EnrollmentRefused(TenantsError):
    """The enrolment key is wrong, expired, revoked or used up."""


class NotProvisioned(TenantsError):
    """The broker keys asked for do not exist yet."""


class StillInUse(TenantsError):
    """What should go still holds devices, or messages."""


class CredentialRefused(TenantsError):
    """No credential for this one: its tenant is suspended, or the device is revoked."""


class RotationRefused(TenantsError):
    """Another rotation was faster, or its overlap is still open."""


class LimitRefused(TenantsError):
    """A limit that no tenant can have."""


class PowerMissing(TenantsError):
    """Somebody would give or take what he has not."""


class NoSuchStream(TenantsError):
    """No stream or consumer of that name is declared."""
