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
from natsbridge.jwt import decode as decode_jwt
from natsbridge.keys import is_public_user_key
from natsbridge.subjects import parse_broker

# The server's words for the end of a connection by its own stopping.
SERVER_SHUTDOWN = "Server Shutdown"

_TOKEN = re.compile(rb"eyJ[A-Za-z0-9_.\-]*")


class BrokerUser(NamedTuple):
    """Who a connection belongs to. `public` is empty for one that came with a password, `issuer`
    is the key that signed the user's JWT, `issued_at` that JWT's `iat`."""

    account: str
    name: str
    public: str
    issued_at: int | None
    issuer: str
    tags: tuple[str, ...]


class BrokerConnection(NamedTuple):
    """One client's connection to one server; `reason` is the server's word for its end."""

    server: str
    client: int
    user: BrokerUser
    address: str
    kind: str
    started_at: datetime
    stopped_at: datetime | None = None
    reason: str = ""


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


_event = msgspec.json.Decoder(_Event)


def is_of_nobody(subject: str) -> bool:
    """Whether it ended before anybody had logged in, as a load balancer's probes do."""
    return subject.startswith("broker.$G.")


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
    return BrokerConnection(
        server=body.server.id[:56],
        client=client.id,
        user=_user(account, client.user, client.jwt, client.issuer_key, client.tags),
        address=client.host[:64],
        kind=client.kind,
        started_at=client.start.astimezone(UTC),
        stopped_at=(client.stop or body.timestamp).astimezone(UTC) if ended else None,
        reason=body.reason[:100] if ended else "",
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


def without_secrets(data: bytes) -> bytes:
    """The event with its tokens cut out: whole, cut short, or in a body that is no JSON."""
    return _TOKEN.sub(b"(removed)", data)


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
        name, issued_at = str(said.get("name", "")).replace("\0", "")[:100], said.get("iat")
        return BrokerUser(
            account,
            name,
            str(said.get("sub", "")),
            issued_at if isinstance(issued_at, int) else None,
            issuer,
            tags or tuple(str(tag) for tag in nats.get("tags") or ()),
        )
    if is_public_user_key(user):
        return BrokerUser(account, "", user, None, issuer, tags)
    # A JWT that cannot be read would have been somebody's own.
    name = user[:100] if said or not jwt else ""
    return BrokerUser(account, name, "", None, issuer, tags)


def _claims(jwt: str) -> dict[str, Any]:
    try:
        return decode_jwt(jwt)
    except InvalidClaims:
        return {}
