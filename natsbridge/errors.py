"""What can go wrong between the platform and the broker."""


class BridgeError(Exception):
    """The root of every error this package raises on purpose."""


class InvalidSubject(BridgeError):
    """A subject, or a part of one, is not of the shape that is published or accepted here."""


class MalformedMessage(BridgeError):
    """A message that cannot be used: a sentence to read, and `reason`, a word to count by."""

    def __init__(self, detail: str, *, reason: str = "malformed") -> None:
        super().__init__(detail)
        self.reason = reason


class DependencyAway(BridgeError):
    """A server that a handler needs does not answer; the batch is kept and tried again."""


class InvalidClaims(BridgeError):
    """A key or a JWT that is not what it should be, or one that must not be signed."""


class ClaimsRefused(BridgeError):
    """The server would not take account claims; the text is the server's own words."""


class BrokerUnavailable(BridgeError):
    """No server answered, or there is no connection to one right now."""


class StreamRefused(BridgeError):
    """A stream or consumer cannot be made what it is declared to be without losing messages."""


class AlreadyPruning(BridgeError):
    """One process at a time removes what is old."""


class RejectedQuestion(BridgeError):
    """What was asked of the auth callout is malformed, stale, or not from one of our servers."""
