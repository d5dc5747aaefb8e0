"""What the actions of this app raise; the message is fit to show to a person."""


class DevicesError(Exception):
    """Base of all errors of this app."""


class CommandRefused(DevicesError):
    """The command cannot be issued, or not cancelled, as asked."""


class RegistrationRefused(DevicesError):
    """The proof or the key that came with a registration is not good."""


class AlreadyRegistered(DevicesError):
    """The key pair is registered, and nothing proves that the caller holds its private half."""


class DeviceCannotMove(DevicesError):
    """A device stays within its tenant."""
