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
    """What should go still holds devices."""
