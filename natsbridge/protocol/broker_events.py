"""Read the broker's own events: which user connected to a server or disconnected from it.

An event contains the user's JWT. The JWT is read here for the user's name and key and then dropped:
no record has it, and an event that becomes a dead letter goes through `without_secrets` first.
"""

import re
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from natsbridge.errors import ForeignIdentity, InvalidClaims, InvalidSubject, MalformedMessage
from natsbridge.identity.jwt import decode_jwt
from natsbridge.identity.nkeys import is_public_user_key
from natsbridge.protocol.subjects import UNAUTHENTICATED, parse_broker

# The reasons that a server gives for the end of a connection.
SERVER_SHUTDOWN = "Server Shutdown"
ACCOUNT_FULL = "Maximum Account Connections Exceeded"
# The platform stores this one in place of ACCOUNT_FULL where a suspension allows no connection.
TENANT_SUSPENDED = "The tenant is suspended"
# The platform ordered the end, by a revocation, a rotation or a suspension, or by an expiry.
ORDERED_ENDS = (
    "Credentials Revoked",
    "Authentication Expired",
    "Authentication Failure",
    "Kicked",
    ACCOUNT_FULL,
    TENANT_SUSPENDED,
)
# The connection was never admitted.
_REFUSALS = (
    "Authentication Failure",
    "Authentication Timeout",
    "Credentials Revoked",
    "Maximum Connections Exceeded",
    "Missing Account",
    ACCOUNT_FULL,
)

_TOKEN = re.compile(rb"eyJ[A-Za-z0-9_.\-]*")
# What is neither a user key nor one of our usernames may be a password typed into the wrong field.
_TYPED = re.compile(
    rb'("user" *: *")(?!U[A-Z2-7]{55}"|(?:device_|tenant_)?[0-9a-f-]{36}")(?:[^"\\]|\\.)*'
)


class BrokerUser(NamedTuple):
    """The user of a connection.

    `public` is empty for a login by password. `issuer` is the key that signed the user's JWT,
    `issued_at` that JWT's `iat`.
    """

    account: str
    name: str
    public: str
    issued_at: int | None
    issuer: str
    tags: tuple[str, ...]


class Offer(NamedTuple):
    """The credential that a refused login presented.

    The JWT's signature is valid, but the client need not be its holder.
    """

    name: str
    public: str
    issuer: str
    issued_at: int
    expires_at: int | None


class BrokerConnection(NamedTuple):
    """One client's connection to one server.

    `reason` is the server's reason for its end. A `refused` connection was never admitted; `offer`
    is the credential that it presented.
    """

    server: str
    client: int
    user: BrokerUser
    address: str
    kind: str
    started_at: datetime
    stopped_at: datetime | None = None
    reason: str = ""
    refused: bool = False
    offer: Offer | None = None

    def is_refused(self, callout: str | None) -> bool:
        """Return whether the connection was never admitted to an account.

        This includes one that the auth callout, by its account `callout`, admitted to a tenant's
        account that was already full.
        """
        return self.refused or (
            self.reason in (ACCOUNT_FULL, TENANT_SUSPENDED)
            and callout is not None
            and self.user.issuer == callout
        )

    @property
    def never_logged_in(self) -> bool:
        """Whether it ended without an attempt to log in, as a load balancer's probes do."""
        return self.user.account == UNAUTHENTICATED and not self.refused


class _Server(msgspec.Struct, frozen=True):
    id: str


class _Client(msgspec.Struct, frozen=True):
    start: datetime
    acc: str
    id: int
    user: str = ""
    host: str = ""
    jwt: str = ""
    issuer_key: str = ""
    tags: tuple[str, ...] = ()
    stop: datetime | None = None
    kind: str = ""


class _Event(msgspec.Struct, frozen=True):
    server: _Server
    client: _Client
    timestamp: datetime
    reason: str = ""


_event = msgspec.json.Decoder(_Event)


def is_unauthenticated(subject: str) -> bool:
    """Return whether an event is about a connection that never logged in, by its subject alone."""
    return subject.startswith(f"broker.{UNAUTHENTICATED}.")


def read_event(subject: str, data: bytes) -> BrokerConnection:
    """Return the connection that began, or ended if it has `stopped_at`. Raise MalformedMessage."""
    account, event = _subject(subject)
    try:
        body = _event.decode(data)
    except msgspec.ValidationError as error:
        raise MalformedMessage(str(error), reason="wrong_type") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedMessage(str(error), reason="malformed_json") from error
    client = body.client
    if client.acc != account:
        raise ForeignIdentity(
            f"The body's account is {client.acc[:64]!r}, the subject's is {account}."
        )
    ended = event == "disconnect"
    # The server names an issuer for every connection that it has admitted.
    admitted = account != UNAUTHENTICATED and bool(client.issuer_key)
    refused = ended and not admitted and body.reason in _REFUSALS
    return BrokerConnection(
        server=body.server.id[:56],
        client=client.id,
        user=user_of(account, client.user, client.jwt, client.issuer_key, client.tags),
        address=client.host[:64],
        kind=client.kind,
        started_at=client.start.astimezone(UTC),
        stopped_at=(client.stop or body.timestamp).astimezone(UTC) if ended else None,
        reason=body.reason[:100] if ended else "",
        refused=refused,
        offer=_offer(client.jwt) if refused else None,
    )


def user_of(account: str, user: str, jwt: str, issuer: str, tags: tuple[str, ...]) -> BrokerUser:
    """Return the user of a connection to `account`, from what the server tells about it.

    If there is a JWT of the account, the user is what it says, since `user` is then whatever the
    client wrote into its CONNECT. A user admitted by the auth callout has no JWT of its own, and
    `user` is the name that the callout gave it.
    """
    claimed = _claims(jwt)
    nats = claimed.get("nats")
    nats = nats if isinstance(nats, dict) else {}
    if account in (claimed.get("iss"), nats.get("issuer_account")):
        return BrokerUser(
            account,
            _text(claimed.get("name", "")),
            str(claimed.get("sub", "")),
            _seconds(claimed.get("iat")),
            issuer,
            tags or tuple(str(tag) for tag in nats.get("tags") or ()),
        )
    if is_public_user_key(user):
        return BrokerUser(account, "", user, None, issuer, tags)
    # With a JWT that cannot be read, the name may be anything that the client has typed.
    name = _text(user) if claimed or not jwt else ""
    return BrokerUser(account, name, "", None, issuer, tags)


def without_secrets(data: bytes) -> bytes:
    """Remove tokens and typed usernames from an event, even from one that is not valid JSON."""
    return _TYPED.sub(rb"\1(removed)", _TOKEN.sub(b"(removed)", data))


def _subject(subject: str) -> tuple[str, str]:
    try:
        return parse_broker(subject)
    except InvalidSubject as error:
        raise MalformedMessage(str(error), reason="bad_subject") from error


def _offer(jwt: str) -> Offer | None:
    claimed = _claims(jwt)
    public, issuer = str(claimed.get("sub", "")), str(claimed.get("iss", ""))
    if not is_public_user_key(public):
        return None
    return Offer(
        _text(claimed.get("name", "")),
        public,
        issuer,
        _seconds(claimed.get("iat")) or 0,
        _seconds(claimed.get("exp")),
    )


def _text(value: object) -> str:
    return str(value).replace("\0", "")[:100]


def _seconds(value: object) -> int | None:
    """Return a JWT's time if it is one: a client may have made the JWT itself."""
    return value if isinstance(value, int) and 0 <= value < 2**40 else None


def _claims(jwt: str) -> dict[str, Any]:
    try:
        return decode_jwt(jwt)
    except InvalidClaims:
        return {}
