"""The errors of this package."""


class BridgeError(Exception):
    """The base class of all errors of this package."""


class InvalidSubject(BridgeError):
    """A subject, or a part of one, does not have the form that the platform uses."""


class MalformedMessage(BridgeError):
    """A message cannot be used. `reason` is a word to count by, the detail a sentence to read."""

    def __init__(self, detail: str, *, reason: str = "malformed") -> None:
        super().__init__(detail)
        self.reason = reason


class ForeignIdentity(MalformedMessage):
    """A message claims to come from another tenant or device than the one that sent it."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail, reason="foreign_identity")


class DependencyAway(BridgeError):
    """A server that a handler needs does not answer; the batch is kept and tried again."""


class InvalidClaims(BridgeError):
    """A key or a JWT is not valid, or must not be signed."""


class ClaimsRefused(BridgeError):
    """A server refused an order, such as a push of claims; the text is the server's reason."""


class BrokerUnavailable(BridgeError):
    """No server answered, or there is no connection to one right now."""


class StreamRefused(BridgeError):
    """A stream or consumer cannot become as declared without losing messages."""


class AlreadyPruning(BridgeError):
    """Another process is pruning; only one may at a time."""


class AlreadyResolved(BridgeError):
    """A dead letter was replayed or discarded before."""


class NoSubscriber(BridgeError):
    """No subscriber runs, so nothing can be said or done about the service."""


class RejectedQuestion(BridgeError):
    """A question to the auth callout is malformed, stale, or not from a known server."""
