"""Read the lists of connections that a nats-server sends in answer to CONNZ."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from natsbridge.errors import MalformedMessage
from natsbridge.protocol.broker_events import BrokerConnection, user_of
from natsbridge.rules.metering import Traffic


class ConnectionList(NamedTuple):
    """One page of a server's list of its connections, as of `now`.

    `clients` are the numbers of all connections on the page, `connections` those that have logged
    in. `total` counts the connections of the whole list.
    """

    server: str
    now: datetime
    total: int
    clients: frozenset[int]
    connections: tuple[BrokerConnection, ...]


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


def read_listing(answer: Mapping[str, Any]) -> ConnectionList:
    """Read an answer to CONNZ with `auth`. Raise MalformedMessage if that fails."""
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
    """Read from an answer to CONNZ what each connection has sent. Raise MalformedMessage."""
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


def _listed(listing: _Listing) -> Iterator[BrokerConnection]:
    for each in listing.connections:
        # A connection that has not logged in yet has no account.
        if each.account:
            yield BrokerConnection(
                server=listing.server_id[:56],
                client=each.cid,
                user=user_of(
                    each.account, each.authorized_user, each.jwt, each.issuer_key, each.tags
                ),
                address=each.ip[:64],
                kind=each.kind,
                started_at=each.start.astimezone(UTC),
            )
