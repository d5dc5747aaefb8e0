"""What the actions of this app raise; the message is fit to show to a person."""

from tenants.errors import TenantsError


class DevicesError(TenantsError):
    """Base of all errors of this app; what shows those of `tenants` to people shows these too."""


class CommandRefused(DevicesError):
    """The command cannot be issued, or not cancelled, as asked."""


class UnfitJson(DevicesError):
    """A JSON value cannot be stored or sent to an agent."""


class CommandConflict(CommandRefused):
    """As things are now it cannot be done; asked at another time it could."""


class NoSuchTransition(DevicesError):
    """The states of a command do not lead there."""


class RegistrationRefused(DevicesError):
    """The proof or the key that came with a registration is not good."""


class AlreadyRegistered(DevicesError):
    """The key pair is registered, and nothing proves that the caller holds its private half."""


class RegistrationForbidden(DevicesError):
    """The tenant is suspended or the device revoked, so that it may not register."""


class UpgradeRefused(DevicesError):
    """The device speaks NATS already, or must not."""


class TooManyDevices(DevicesError):
    """The tenant has as many devices as its limit allows."""


class DeviceCannotMove(DevicesError):
    """A device stays within its tenant."""
