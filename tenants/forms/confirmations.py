"""Ask admins for confirmation before they change a tenant's access to the broker."""

from natsbridge.confirmation import Confirmation
from tenants.forms.credentials import IssueForm, OverlapForm, ReasonForm, RotateForm

ISSUE = Confirmation(
    "New credential of {}",
    "This adds a credential; those in use stay valid. The next page shows its secret, once.",
    "Create the credential",
    IssueForm,
    "The credential has been issued.",
    dangerous=False,
)
ROTATE = Confirmation(
    "Rotate the credential of {}",
    "The next page shows the new credential, once. The current one ends after the overlap.",
    "Rotate the credential",
    RotateForm,
    "The credential has been rotated.",
    dangerous=False,
)
ROTATE_KEYS = Confirmation(
    "Rotate the signing keys of {}",
    "Every credential signed with the current keys ends after the overlap. Agents fetch new ones "
    "by themselves; the tenant's own credential has to be replaced. With an overlap of 0 every "
    "device is disconnected at once.",
    "Rotate the signing keys",
    OverlapForm,
    "The signing keys have been rotated.",
)
REVOKE_CREDENTIAL = Confirmation(
    "Revoke a credential of {}",
    "It becomes invalid at once: connections that use it end within a second. A device whose "
    "credential is revoked fetches a new one; revoke the device itself to keep it out.",
    "Revoke the credential",
    ReasonForm,
    "The credential has been revoked.",
)
SUSPEND = Confirmation(
    "Suspend {}",
    "All its devices and its own credential are disconnected within a second, and neither they nor "
    "its devices' tokens are accepted until it is resumed. Its people can still log in and read.",
    "Suspend the tenant",
    ReasonForm,
    "The tenant has been suspended.",
)
RESUME = Confirmation(
    "Resume {}",
    "Its devices reconnect by themselves.",
    "Resume the tenant",
    done="The tenant has been resumed.",
    dangerous=False,
)
