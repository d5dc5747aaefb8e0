"""Pure: the broker's own word on who connects and who leaves, from JSON to typed records.

What the server sends contains the user's JWT. It is read here for what it says of its holder and
dropped: no record has it, and what is kept of an event that cannot be read goes through
`without_secrets`.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from natsbridge.errors import InvalidClaims, InvalidSubject, MalformedMessage
from natsbridge.identity.jwt import decode as decode_jwt
from natsbridge.identity.nkeys import is_public_user_key
from natsbridge.protocol.subjects import NOBODY, parse_broker
from natsbridge.rules.metering import Traffic

# The server's words for the end of a connection: by its own stopping,
SERVER_SHUTDOWN = "Server Shutdown"
ACCOUNT_FULL = "Maximum Account Connections Exceeded"
# ours for it where a suspension allows no connection at all,
TENANT_SUSPENDED = "The tenant is suspended"
# by what the platform has ordered (a revocation, a rotation, a suspension) or has set as its end,
ORDERED_ENDS = (
    "Credentials Revoked",
    "Authentication Expired",
    "Authentication Failure",
    "Kicked",
    ACCOUNT_FULL,
    TENANT_SUSPENDED,
)
# and where nobody had been let in yet.
_REFUSALS = (
    "Authentication Failure",
    "Authentication Timeout",
    "Credentials Revoked",
    "Maximum Connections Exceeded",
    "Missing Account",
    ACCOUNT_FULL,
)

_TOKEN = re.compile(rb"eyJ[A-Za-z0-9_.\-]*")
# Whatever is no user key and no name of ours may be a password in the wrong field.
_TYPED = re.compile(
    rb'("user" *: *")(?!U[A-Z2-7]{55}"|(?:device_|tenant_)?[0-9a-f-]{36}")(?:[^"\\]|\\.)*'
)


class BrokerUser(NamedTuple):
    """Who a connection belongs to. `public` is empty for one that came with a password, `issuer`
    is the key that signed the user's JWT, `issued_at` that JWT's `iat`."""

    account: str
    name: str
    public: str
    issued_at: int | None
    issuer: str
    tags: tuple[str, ...]


class Offer(NamedTuple):
    """What the JWT says with which somebody was refused: its signature is its issuer's, but who
    brought it need not be its holder."""

    name: str
    public: str
    issuer: str
    issued_at: int
    expires_at: int | None


class BrokerConnection(NamedTuple):
    """One client's connection to one server; `reason` is the server's word for its end. `refused`:
    it was not let in, having offered `offer`."""

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
        """Besides, it may have been let in by the auth callout, whose account is its issuer then,
        and found the tenant's own account full."""
        return self.refused or (
            self.reason in (ACCOUNT_FULL, TENANT_SUSPENDED)
            and callout is not None
            and self.user.issuer == callout
        )

    @property
    def was_nobody(self) -> bool:
        """It came and went without trying to log in, as a load balancer's probes do."""
        return self.user.account == NOBODY and not self.refused


class ConnectionList(NamedTuple):
    """A part of what one server says of its connections as of `now`: `clients` are all their
    numbers, `connections` those whose user can be told, `total` is how many there are."""

    server: str
    now: datetime
    total: int
    clients: frozenset[int]
    connections: tuple[BrokerConnection, ...]


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


class _Listed(msgspec.Struct, frozen=True):
    cid: int
    start: datetime
    account: str = ""
    authorized_user: str = ""
    ip: str = ""
    jwt: str = ""
    issuer_key: str = ""
    tags: tuple[str, ...] = ()
    kind: str = ""


class _Listing(msgspec.Struct, frozen=True):
    server_id: str
    now: datetime
    total: int
    connections: tuple[_Listed, ...] = ()


class _ListingAnswer(msgspec.Struct, frozen=True):
    data: _Listing


class _Counted(msgspec.Struct, frozen=True):
    cid: int
    start: datetime
    in_msgs: int
    in_bytes: int
    stop: datetime | None = None


class _CountedListing(msgspec.Struct, frozen=True):
    server_id: str
    now: datetime
    connections: tuple[_Counted, ...] = ()


class _CountedAnswer(msgspec.Struct, frozen=True):
    data: _CountedListing


_event = msgspec.json.Decoder(_Event)


def is_of_nobody(subject: str) -> bool:
    """Whether no login had succeeded, whatever the event says."""
    return subject.startswith(f"broker.{NOBODY}.")


def read_event(subject: str, data: bytes) -> BrokerConnection:
    """A connection that began, or (with `stopped_at`) one that ended. Raises MalformedMessage."""
    account, event = _subject(subject)
    try:
        body = _event.decode(data)
    except msgspec.ValidationError as error:
        raise MalformedMessage(str(error), reason="wrong_type") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedMessage(str(error), reason="malformed_json") from error
    client = body.client
    if client.acc != account:
        raise MalformedMessage(
            "The body's account is not the subject's.", reason="foreign_identity"
        )
    ended = event == "disconnect"
    # One that was let in has the issuer of what let it in.
    let_in = account != NOBODY and bool(client.issuer_key)
    refused = ended and not let_in and body.reason in _REFUSALS
    return BrokerConnection(
        server=body.server.id[:56],
        client=client.id,
        user=_user(account, client.user, client.jwt, client.issuer_key, client.tags),
        address=client.host[:64],
        kind=client.kind,
        started_at=client.start.astimezone(UTC),
        stopped_at=(client.stop or body.timestamp).astimezone(UTC) if ended else None,
        reason=body.reason[:100] if ended else "",
        refused=refused,
        offer=_offer(client.jwt) if refused else None,
    )


def read_listing(answer: Mapping[str, Any]) -> ConnectionList:
    """An answer to CONNZ with `auth`. Raises MalformedMessage."""
    try:
        body = msgspec.convert(answer, _ListingAnswer).data
    except msgspec.ValidationError as error:
        raise MalformedMessage(str(error), reason="wrong_type") from error
    return ConnectionList(
        body.server_id[:56],
        body.now.astimezone(UTC),
        body.total,
        frozenset(each.cid for each in body.connections),
        tuple(_listed(body)),
    )


def read_traffic(answer: Mapping[str, Any]) -> list[Traffic]:
    """An answer to CONNZ: what each connection has sent. Raises MalformedMessage."""
    try:
        body = msgspec.convert(answer, _CountedAnswer).data
    except msgspec.ValidationError as error:
        raise MalformedMessage(str(error), reason="wrong_type") from error
    return [
        Traffic(
            (body.server_id[:56], each.cid),
            ((each.stop or body.now) - each.start).total_seconds(),
            each.in_msgs,
            each.in_bytes,
        )
        for each in body.connections
    ]


def without_secrets(data: bytes) -> bytes:
    """The event with its tokens and typed usernames cut out: whole, cut short, or in a body that is
    no JSON."""
    return _TYPED.sub(rb"\1(removed)", _TOKEN.sub(b"(removed)", data))


def _subject(subject: str) -> tuple[str, str]:
    try:
        return parse_broker(subject)
    except InvalidSubject as error:
        raise MalformedMessage(str(error), reason="bad_subject") from error


def _listed(listing: _Listing) -> Iterator[BrokerConnection]:
    for each in listing.connections:
        # Without an account it has not logged in yet.
        if each.account:
            yield BrokerConnection(
                server=listing.server_id[:56],
                client=each.cid,
                user=_user(
                    each.account, each.authorized_user, each.jwt, each.issuer_key, each.tags
                ),
                address=each.ip[:64],
                kind=each.kind,
                started_at=each.start.astimezone(UTC),
            )


def _user(account: str, user: str, jwt: str, issuer: str, tags: tuple[str, ...]) -> BrokerUser:
    """What a JWT of the account says, where there is one: `user` is then whatever the client wrote
    into its CONNECT as `nkey` or `user`. One whom the auth callout let in has none, and `user` is
    the name that the callout gave."""
    said = _claims(jwt)
    nats = said.get("nats")
    nats = nats if isinstance(nats, dict) else {}
    if account in (said.get("iss"), nats.get("issuer_account")):
        return BrokerUser(
            account,
            _text(said.get("name", "")),
            str(said.get("sub", "")),
            _seconds(said.get("iat")),
            issuer,
            tags or tuple(str(tag) for tag in nats.get("tags") or ()),
        )
    if is_public_user_key(user):
        return BrokerUser(account, "", user, None, issuer, tags)
    # A JWT that cannot be read would have been somebody's own.
    name = _text(user) if said or not jwt else ""
    return BrokerUser(account, name, "", None, issuer, tags)


def _offer(jwt: str) -> Offer | None:
    said = _claims(jwt)
    public, issuer = str(said.get("sub", "")), str(said.get("iss", ""))
    if not is_public_user_key(public):
        return None
    return Offer(
        _text(said.get("name", "")),
        public,
        issuer,
        _seconds(said.get("iat")) or 0,
        _seconds(said.get("exp")),
    )


def _text(value: object) -> str:
    return str(value).replace("\0", "")[:100]


def _seconds(value: object) -> int | None:
    """Of a JWT's time, if that is one: whoever made the JWT may have written anything there."""
    return value if isinstance(value, int) and 0 <= value < 2**40 else None


def _claims(jwt: str) -> dict[str, Any]:
    try:
        return decode_jwt(jwt)
    except InvalidClaims:
        return {}
