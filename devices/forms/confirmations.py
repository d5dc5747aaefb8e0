"""Ask people for confirmation before they change a device's access or end a command."""

from natsbridge.confirmation import Confirmation
from tenants.forms.credentials import OverlapForm, ReasonForm

REVOKE = Confirmation(
    "Revoke {}",
    "The connection ends within a second, and the credentials and the device token are invalid "
    "until the device is reinstated. The data is kept.",
    "Revoke the device",
    ReasonForm,
    "The device has been revoked.",
)
REINSTATE = Confirmation(
    "Reinstate {}",
    "The device token is valid again, so the agent fetches a new credential and reconnects.",
    "Reinstate the device",
    done="The device has been reinstated.",
    dangerous=False,
)
ROTATE = Confirmation(
    "Rotate the credential of {}",
    "The agent is told to fetch a new credential as soon as it is online. No message is lost.",
    "Rotate the credential",
    OverlapForm,
    "The agent is told to fetch a new credential.",
    dangerous=False,
)
DELETE = Confirmation(
    "Delete {}",
    "Commands, results and history are deleted with the device. Its credentials become invalid, "
    "and its agent has to enrol again. This cannot be undone.",
    "Delete the device",
    ReasonForm,
    "The device has been deleted.",
)
CANCEL = Confirmation(
    "Cancel {}",
    "The command waits for its device, and will not be sent.",
    "Cancel the command",
    done="The command has been cancelled.",
)
GIVE_UP = Confirmation(
    "Give up {}",
    "A sent command cannot be recalled. It counts as failed unless a result arrives later.",
    "Give up the command",
    done="The command has been given up.",
)
RETRY = Confirmation(
    "Retry {}",
    "The same command is issued again, with as much time as this one had.",
    "Retry the command",
    done="The command has been issued again.",
    dangerous=False,
)
