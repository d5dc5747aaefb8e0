"""Account claims on the servers, and ending a connection: all through the system account.

Every function takes a connection of a user in SYS, and raises BrokerUnavailable when no server
answers. In a cluster each server answers for itself.
"""

import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from natsbridge.claims import KeyPair, decode, deletion_jwt
from natsbridge.errors import BrokerUnavailable, ClaimsRefused

_ANSWER_SECONDS = 5.0
_NO_RESPONDERS = "503"

Answer = dict[str, Any]


async def push(system: Client, jwt: str) -> None:
    """Make `jwt` the claims of its account on every server, at once and without a restart.

    Raises ClaimsRefused with the server's words if any server refused; the claims that were in
    force there stay so. A server takes what comes last, even if it is older, so two pushes of one
    account must not overtake each other.
    """
    account: str = decode(jwt)["sub"]
    await _order_all(system, "$SYS.REQ.CLAIMS.UPDATE", jwt)
    if await lookup(system, account) != jwt:
        raise ClaimsRefused("the server answered that all was well, but has other claims")


async def delete(
    system: Client, operator: KeyPair, account_publics: Iterable[str], *, issued_at: int
) -> None:
    """Make every server forget these accounts; their connections end. Raises ClaimsRefused."""
    jwt = deletion_jwt(operator, account_publics, issued_at=issued_at)
    await _order_all(system, "$SYS.REQ.CLAIMS.DELETE", jwt)


async def lookup(system: Client, account_public: str) -> str | None:
    """The account JWT the servers have, or None when none of them knows the account."""
    subject = f"$SYS.REQ.ACCOUNT.{account_public}.CLAIMS.LOOKUP"
    async with _asked(system, subject, "") as answers:
        answer = await _next(answers, subject)
        if not answer.data:
            # Servers that do not know the account answer too, and perhaps before one that does.
            for _ in range(await _server_count(system) - 1):
                answer = await _next(answers, subject)
                if answer.data:
                    break
    return answer.data.decode() or None


async def listing(system: Client) -> list[str]:
    """The public keys of all accounts that any server knows, sorted."""
    answers = await _ask_all(system, "$SYS.REQ.CLAIMS.LIST", "")
    return sorted({account for answer in answers for account in answer["data"]})


async def kick(system: Client, server_id: str, connection_id: int) -> None:
    """End one client's connection to the server with that id; ClaimsRefused if it has none."""
    subject = f"$SYS.REQ.SERVER.{server_id}.KICK"
    _accepted(await _ask_one(system, subject, json.dumps({"cid": connection_id})))


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
    """One answer from each server that is up."""
    async with _asked(system, subject, body) as answers:
        found = [_parsed(await _next(answers, subject))]
        # A server names its cluster, if it is in one.
        if "cluster" in found[0]["server"]:
            for _ in range(await _server_count(system) - 1):
                found.append(_parsed(await _next(answers, subject)))
    return found


async def _server_count(system: Client) -> int:
    """How many servers are up, as one of them sees it."""
    answer = await _ask_one(system, "$SYS.REQ.SERVER.PING", "")
    count: int = answer["statsz"]["active_servers"]
    return count


@asynccontextmanager
async def _asked(system: Client, subject: str, body: str) -> AsyncIterator[Subscription]:
    """The answers to one request, however many servers give one."""
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
        raise BrokerUnavailable(f"a server did not answer {subject}") from None
    if (answer.headers or {}).get("Status") == _NO_RESPONDERS:
        raise BrokerUnavailable(f"no server takes {subject}")
    return answer


def _parsed(answer: Msg) -> Answer:
    parsed: Answer = json.loads(answer.data)
    return parsed
