"""Ask people for confirmation before they change a device's access or end a command."""

from devices.forms.inventory import ArchiveForm, FieldForm, TagForm
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
EDIT = Confirmation(
    "Edit {}",
    "The agent and its connection are not affected.",
    "Save",
    done="The device has been changed.",
    dangerous=False,
)
ARCHIVE = Confirmation(
    "Archive {}",
    "The device leaves the fleet and no longer counts towards the limit. Its connection ends, its "
    "credentials become invalid, and it gets no commands and cannot enrol again. Its history is "
    "kept, and the device can be brought back.",
    "Archive the device",
    ArchiveForm,
    "The device has been archived.",
)
UNARCHIVE = Confirmation(
    "Bring {} back",
    "The device is in the fleet again. Its device token is valid again, so its agent fetches a new "
    "credential, unless the device had been revoked before it was archived.",
    "Unarchive the device",
    done="The device is in the fleet again.",
    dangerous=False,
)
NEW_TAG = Confirmation(
    "New tag of {}",
    "Tags group devices for the fleet's filters and for commands.",
    "Create the tag",
    TagForm,
    dangerous=False,
)
RENAME_TAG = Confirmation(
    "Rename the tag {}", "It stays on its devices.", "Rename the tag", TagForm, dangerous=False
)
DELETE_TAG = Confirmation(
    "Delete the tag {}", "It is taken off all devices. This cannot be undone.", "Delete the tag"
)
NEW_FIELD = Confirmation(
    "New custom field of {}",
    "Each device can have a value of this type. The type cannot be changed later.",
    "Create the field",
    FieldForm,
    dangerous=False,
)
CHANGE_FIELD = Confirmation(
    "Change the field {}",
    "The devices keep their values; a choice that devices have cannot be removed.",
    "Save",
    dangerous=False,
)
DELETE_FIELD = Confirmation(
    "Delete the field {}",
    "Its values are deleted on all devices. This cannot be undone.",
    "Delete the field",
)
