"""The errors that this app's actions raise; their messages are written for people."""

from collections.abc import Sequence
from dataclasses import dataclass

from tenants.errors import TenantsError


class DevicesError(TenantsError):
    """The base of this app's errors; what shows the errors of `tenants` shows these too."""


class CommandRefused(DevicesError):
    """The command cannot be issued or cancelled."""


class UnfitJson(DevicesError):
    """A JSON value cannot be stored or sent to an agent."""


class CommandConflict(CommandRefused):
    """The command cannot be issued or cancelled now, but could be at another time."""


class NoSuchTransition(DevicesError):
    """The graph of command states does not allow this change."""


class RegistrationRefused(DevicesError):
    """The proof or the key of a registration is not valid."""


class AlreadyRegistered(DevicesError):
    """The key pair is registered, and nothing proves that the caller holds its private half."""


class RegistrationForbidden(DevicesError):
    """The tenant is suspended or the device revoked, so it may not register."""


class UpgradeRefused(DevicesError):
    """The device speaks NATS already, or must not."""


class TooManyDevices(DevicesError):
    """The tenant has as many devices as its limit allows."""


class DeviceArchived(DevicesError):
    """The device is archived, so it cannot be reinstated."""


class InventoryRefused(DevicesError):
    """A tag or a custom field is unknown, or a value is not one of the field's type."""


class DeviceCannotMove(DevicesError):
    """A device stays within its tenant."""


@dataclass(frozen=True)
class RowError:
    """An error in one row of an import; `column` is empty where it is about the whole row."""

    line: int
    column: str
    detail: str

    @property
    def place(self) -> str:
        return f"line {self.line}, {self.column}" if self.column else f"line {self.line}"

    def __str__(self) -> str:
        return f"{self.place}: {self.detail}"


class DeviceImportRefused(DevicesError):
    """An import has errors, or is not possible now; nothing was imported.

    `errors` has those of its rows.
    """

    def __init__(self, message: str, errors: Sequence[RowError] = ()) -> None:
        super().__init__(message)
        self.errors = errors
