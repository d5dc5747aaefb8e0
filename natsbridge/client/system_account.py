"""Push claims, list connections and end them, through the system account.

Every function takes a client of a user in SYS, and raises BrokerUnavailable if no server answers.
In a cluster each server answers for itself.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from operator import itemgetter
from typing import Any

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from natsbridge.errors import BrokerUnavailable, ClaimsRefused
from natsbridge.identity.jwt import decode_jwt
from natsbridge.jetstream.streams import Found
from natsbridge.protocol.broker_events import BrokerConnection
from natsbridge.protocol.connection_lists import ConnectionList, read_listing, read_traffic
from natsbridge.rules.metering import ConnectionKey, Traffic

_ANSWER_SECONDS = 5.0
_NO_RESPONDERS = "503"

# The most connections that a server names in one answer.
_CONNECTIONS_PAGE = 1024
_OVERLAP = 24
_OPEN_AND_CLOSED = 2

Answer = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ClientConnection:
    """One client's connection to one server.

    `user` is the public key of a user that logged in with a JWT, or else the name that the auth
    callout gave it.
    """

    server_id: str
    number: int
    user: str
    started_at: datetime


async def push(system: Client, jwt: str) -> None:
    """Make `jwt` the claims of its account on every server, at once and without a restart.

    Raise ClaimsRefused with the server's reason if a server refuses; it then keeps the claims it
    has. A server takes the last push, even if its claims are older, so two pushes of one account
    must not overtake each other.
    """
    account: str = decode_jwt(jwt)["sub"]
    await _order_all(system, "$SYS.REQ.CLAIMS.UPDATE", jwt)
    if await lookup(system, account) != jwt:
        raise ClaimsRefused("the server accepted the claims, but has different ones")


async def lookup(system: Client, account_public: str) -> str | None:
    """Return the account JWT that the servers have, or None if none of them knows the account."""
    subject = f"$SYS.REQ.ACCOUNT.{account_public}.CLAIMS.LOOKUP"
    async with _asked(system, subject, "") as answers:
        answer = await _next(answers, subject)
        if not answer.data:
            # A server that does not know the account may answer before one that does.
            for _ in range(len(await _servers(system)) - 1):
                answer = await _next(answers, subject)
                if answer.data:
                    break
    return answer.data.decode() or None


async def server_ids(system: Client) -> frozenset[str]:
    """Return the ids of all servers that are up; an id is the public half of a server's NKey."""
    answers = await _ask_all(system, "$SYS.REQ.SERVER.PING", "")
    return frozenset(answer["server"]["id"] for answer in answers)


async def kick(system: Client, server_id: str, connection_id: int) -> None:
    """End one client's connection to a server, or raise ClaimsRefused if there is none."""
    subject = f"$SYS.REQ.SERVER.{server_id}.KICK"
    _accepted(await _ask_one(system, subject, json.dumps({"cid": connection_id})))


async def streams(system: Client, account_public: str) -> dict[str, dict[str, Any]]:
    """Return the configuration of each stream of the account, by name, without a login to it."""
    details = await _stream_details(system, account_public, {"config": True})
    return {each["name"]: each["config"] for each in details}


async def held(system: Client, account_public: str) -> list[Found]:
    """Return the streams and consumers of the account, without a login to it."""
    found: list[Found] = []
    for each in await _stream_details(system, account_public, {"consumer": True}):
        found.append(Found(each["name"], None, each["state"]["messages"]))
        for one in sorted(each.get("consumer_detail") or [], key=itemgetter("name")):
            waiting = one.get("num_pending", 0) + one.get("num_ack_pending", 0)
            found.append(Found(each["name"], one["name"], waiting))
    return found


async def _stream_details(
    system: Client, account_public: str, wanted: dict[str, Any]
) -> list[dict[str, Any]]:
    body = json.dumps({"acc": account_public, "streams": True} | wanted)
    answers = await _ask_all(system, f"$SYS.REQ.ACCOUNT.{account_public}.JSZ", body)
    return [
        detail
        for answer in answers
        for detail in (answer.get("data") or {}).get("stream_detail") or []
    ]


async def connections(
    system: Client, account_public: str, *, page: int = _CONNECTIONS_PAGE
) -> list[ClientConnection]:
    """Return all connections to the account, on every server."""
    subject = f"$SYS.REQ.ACCOUNT.{account_public}.CONNZ"
    query = {"acc": account_public, "auth": True, "limit": page}
    found: dict[tuple[str, int], ClientConnection] = {}
    for answer in await _ask_all(system, subject, json.dumps(query)):
        server, data = answer["server"]["id"], answer.get("data") or {}
        while True:
            for each in data.get("connections") or []:
                found[server, each["cid"]] = _connection(server, each)
            # Pages overlap, since a connection that ends meanwhile moves those behind it up.
            offset = data.get("offset", 0) + max(page - _OVERLAP, 1)
            if data.get("offset", 0) + page >= data.get("total", 0):
                break
            body = json.dumps(query | {"offset": offset})
            data = (await _ask_one(system, f"$SYS.REQ.SERVER.{server}.CONNZ", body))["data"]
    return list(found.values())


async def all_connections(system: Client, *, page: int = _CONNECTIONS_PAGE) -> list[ConnectionList]:
    """Return the connections of every server and account, in pages.

    Raise BrokerUnavailable unless every server that is up answers, and MalformedMessage.
    """
    query = {"auth": True, "limit": page}
    parts: list[ConnectionList] = []
    for answer in await _ask_all(system, "$SYS.REQ.SERVER.PING.CONNZ", json.dumps(query)):
        part, offset = read_listing(answer), 0
        parts.append(part)
        while offset + page < part.total:
            # Pages overlap, since a connection that ends meanwhile moves those behind it up.
            offset += max(page - _OVERLAP, 1)
            body = json.dumps(query | {"offset": offset})
            subject = f"$SYS.REQ.SERVER.{part.server}.CONNZ"
            part = read_listing(await _ask_one(system, subject, body))
            parts.append(part)
    return parts


async def received(system: Client) -> dict[str, tuple[int, int]]:
    """Return how many messages and bytes each server has received since it started, by its id."""
    counted = {
        answer["server"]["id"]: answer["statsz"]["received"]
        for answer in await _ask_all(system, "$SYS.REQ.SERVER.PING", "")
    }
    return {server: (each["msgs"], each["bytes"]) for server, each in counted.items()}


async def traffic(system: Client, *, most: int = _CONNECTIONS_PAGE) -> list[Traffic]:
    """Return the traffic of the most recently active connections of every server, ended ones too.

    Raise BrokerUnavailable and MalformedMessage.
    """
    query = {"sort": "last", "limit": most, "state": _OPEN_AND_CLOSED}
    answers = await _ask_all(system, "$SYS.REQ.SERVER.PING.CONNZ", json.dumps(query))
    return [each for answer in answers for each in read_traffic(answer)]


async def connection(system: Client, key: ConnectionKey) -> BrokerConnection | None:
    """Return an open or ended connection, or None if the server does not know it any more."""
    server, number = key
    query = {"cid": number, "auth": True, "state": _OPEN_AND_CLOSED}
    subject = f"$SYS.REQ.SERVER.{server}.CONNZ"
    answer = await _ask_one(system, subject, json.dumps(query))
    return next(iter(read_listing(answer).connections), None) if "data" in answer else None


async def subscriptions(
    system: Client, server_id: str, connection_id: int
) -> frozenset[str] | None:
    """Return the subjects that a connection subscribes to, or None if it has ended."""
    subject = f"$SYS.REQ.SERVER.{server_id}.CONNZ"
    query = {"cid": connection_id, "subscriptions": True}
    answer = await _ask_one(system, subject, json.dumps(query))
    for each in (answer.get("data") or {}).get("connections") or []:
        if each["cid"] == connection_id:
            return frozenset(each.get("subscriptions_list") or ())
    return None


def _connection(server: str, said: dict[str, Any]) -> ClientConnection:
    started_at = datetime.fromisoformat(said["start"])
    return ClientConnection(server, said["cid"], said.get("authorized_user", ""), started_at)


async def _order_all(system: Client, subject: str, body: str) -> None:
    for answer in await _ask_all(system, subject, body):
        _accepted(answer)


def _accepted(answer: Answer) -> None:
    if "error" in answer:
        raise ClaimsRefused(answer["error"].get("description", "the server gave no reason"))


async def _ask_one(system: Client, subject: str, body: str) -> Answer:
    async with _asked(system, subject, body) as answers:
        return _parsed(await _next(answers, subject))


async def _ask_all(system: Client, subject: str, body: str) -> list[Answer]:
    """Return one answer from each server that is up."""
    async with _asked(system, subject, body) as answers:
        found = [_parsed(await _next(answers, subject))]
        # A server in a cluster names the cluster.
        if "cluster" in found[0]["server"]:
            missing = await _servers(system) - {found[0]["server"]["name"]}
            while missing:
                found.append(_parsed(await _next(answers, subject)))
                missing.discard(found[-1]["server"]["name"])
    return found


async def _servers(system: Client) -> set[str]:
    """Return the names of all servers that are up: one that answers, and those it has routes to.

    Its `active_servers` would count a server that was killed for minutes.
    """
    answer = await _ask_one(system, "$SYS.REQ.SERVER.PING", "")
    routes = answer["statsz"].get("routes") or []
    return {answer["server"]["name"], *(route["name"] for route in routes)}


@asynccontextmanager
async def _asked(system: Client, subject: str, body: str) -> AsyncIterator[Subscription]:
    """Send one request, and give the subscription to which its answers come."""
    try:
        inbox = system.new_inbox()
        subscription = await system.subscribe(inbox)
        try:
            await system.publish(subject, body.encode(), reply=inbox)
            yield subscription
        finally:
            await subscription.unsubscribe()
    except nats.errors.ConnectionClosedError as error:
        raise BrokerUnavailable("not connected to the system account") from error


async def _next(answers: Subscription, subject: str) -> Msg:
    try:
        answer = await answers.next_msg(timeout=_ANSWER_SECONDS)
    except nats.errors.TimeoutError:
        raise BrokerUnavailable(
            f"a server did not answer {subject} within {_ANSWER_SECONDS:.0f} s"
        ) from None
    if (answer.headers or {}).get("Status") == _NO_RESPONDERS:
        raise BrokerUnavailable(f"no server answers {subject}")
    return answer


def _parsed(answer: Msg) -> Answer:
    parsed: Answer = json.loads(answer.data)
    return parsed
