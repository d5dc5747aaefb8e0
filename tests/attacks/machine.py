"""Each kind of attack, done on the real server, and what came of it.

A client's commands are dealt with in order, and what they cause is in the other clients' queues
before its PONG is. So nothing here waits to find that a message did not come, except where
JetStream, which works on its own, could still answer.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any
from uuid import uuid4

from natsbridge import claims
from tests.attacks.stage import PLATFORM, Overheard, Stage
from tests.attacks.table import (
    Actor,
    Credential,
    Deed,
    Divert,
    Login,
    Outcome,
    Peek,
    Publish,
    Report,
    Request,
    Subscribe,
    Swallow,
)
from tests.attacks.wire import HungUp, Wire, publish, subscribe

# How long JetStream gets to do what it must not.
JETSTREAM_SILENCE = 0.08

_ANSWERS, _TRIED = 1, 2
_LOGIN_REFUSALS = ("authorization violation", "maximum account active connections")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One cell of the table while it is tried; `token` is in all that the actor says."""

    actor: Actor
    place: Mapping[str, str]
    wire: Wire
    token: bytes

    @property
    def report(self) -> str:
        return _report(self.place)

    async def ask(
        self, subject: str, body: bytes, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any] | None:
        return await self.wire.ask(subject, body, inbox=self.place["inbox"], headers=headers)


class Machine:
    """Actors stay logged in from one attempt to the next."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._wires: dict[Actor, Wire] = {}

    async def close(self) -> None:
        for wire in self._wires.values():
            await wire.close()

    async def attempt(self, actor: Actor, deed: Deed) -> Outcome:
        place = self._stage.place(actor)
        deed = _filled(deed, place)
        if isinstance(deed, Login):
            return await self._log_in(actor, deed)
        before = await self._stage.streams()
        self._stage.forget()
        if actor.credential in (Credential.DEVICE, Credential.TENANT):
            wire = await self._wire(actor, place)
            outcome = await self._do(Attempt(actor, place, wire, _token()), deed)
        else:
            outcome = await self._do_without_login(actor, deed, place)
        return outcome if await self._stage.streams() == before else Outcome.LEAKED

    async def _wire(self, actor: Actor, place: Mapping[str, str]) -> Wire:
        wire = self._wires.get(actor)
        if wire is None:
            wire = self._wires[actor] = await self._stage.log_in(self._stage.credentials_of(actor))
            await wire.settle(subscribe(f"{place['inbox']}.answer.*", _ANSWERS))
        wire.heard.clear()
        wire.errors.clear()
        return wire

    async def _do(self, attempt: Attempt, deed: Deed) -> Outcome:
        match deed:
            case Publish():
                return await self._publish(attempt, deed)
            case Subscribe():
                return await self._subscribe(attempt, deed)
            case Request():
                return await self._request(attempt, deed)
            case Report():
                return await self._report(attempt, deed)
            case Divert():
                return await self._divert(attempt, deed)
            case Swallow():
                return await self._swallow(attempt, deed)
            case Peek():
                return await self._peek(attempt, deed)
        raise AssertionError(deed)

    async def _publish(self, attempt: Attempt, deed: Publish) -> Outcome:
        actor, wire = attempt.actor, attempt.wire
        await wire.settle(publish(deed.subject, attempt.token, headers=deed.headers))
        heard = await self._stage.overheard(attempt.token)
        if _violation(wire):
            return Outcome.LEAKED if heard else Outcome.REFUSED
        if not all(self._stage.may_be_heard(actor, each) for each in heard):
            return Outcome.LEAKED
        target = actor.tenant if deed.local else PLATFORM
        return Outcome.ALLOWED if target in {each.place for each in heard} else Outcome.UNHEARD

    async def _subscribe(self, attempt: Attempt, deed: Subscribe) -> Outcome:
        wire, token = attempt.wire, attempt.token
        await wire.settle(subscribe(deed.subject, _TRIED, queue=deed.queue))
        refused = _violation(wire)
        nobody_missed_anything = await self._stage.everybody_talks(token)
        # One that was refused is unknown to the server, which does not mind.
        await wire.settle(f"UNSUB {_TRIED}\r\n".encode())
        heard = {message.body for message in wire.heard if token in message.body}
        if not nobody_missed_anything or heard - {token + attempt.actor.tenant.encode()}:
            return Outcome.LEAKED
        if refused:
            return Outcome.LEAKED if heard else Outcome.REFUSED
        return Outcome.ALLOWED if heard else Outcome.UNHEARD

    async def _request(self, attempt: Attempt, deed: Request) -> Outcome:
        answer = await attempt.ask(deed.subject, deed.body.encode())
        if answer is None:
            return Outcome.REFUSED
        return Outcome.ALLOWED if answer and "error" not in answer else Outcome.UNHEARD

    async def _report(self, attempt: Attempt, deed: Report) -> Outcome:
        answer = await attempt.ask(attempt.report, attempt.token, deed.headers)
        return Outcome.REFUSED if answer is None or "error" in answer else Outcome.ALLOWED

    async def _divert(self, attempt: Attempt, deed: Divert) -> Outcome:
        await attempt.wire.settle(publish(attempt.report, attempt.token, reply=deed.reply))
        if _violation(attempt.wire):
            return Outcome.REFUSED
        await asyncio.sleep(JETSTREAM_SILENCE)
        heard = await self._stage.overheard(attempt.token, b'"stream":"INGEST"')
        strays = [each for each in heard if _is_stray(attempt, each)]
        if not strays:
            return Outcome.UNHEARD
        at_home = all(each.place[0] == attempt.actor.tenant for each in strays)
        wordless = all(_is_pub_ack(each.message.body) for each in strays)
        return Outcome.PUB_ACK if at_home and wordless else Outcome.LEAKED

    async def _swallow(self, attempt: Attempt, deed: Swallow) -> Outcome:
        headers = {"Nats-Msg-Id": attempt.token.decode()}
        await attempt.ask(attempt.report, attempt.token, headers)
        await asyncio.sleep(deed.seconds)
        answer = await self._stage.report(attempt.actor.other, headers)
        return Outcome.ALLOWED if answer.get("duplicate") else Outcome.UNHEARD

    async def _peek(self, attempt: Attempt, deed: Peek) -> Outcome:
        secret = uuid4().hex
        stored = await self._stage.report(attempt.actor.other, {"Nats-Msg-Id": secret})
        answer = await attempt.ask(attempt.report, attempt.token, deed.headers)
        if answer is None or "error" not in answer:
            return Outcome.REFUSED
        told = answer["error"]["description"].rpartition(": ")[2]
        return Outcome.ALLOWED if told in (secret, str(stored["seq"])) else Outcome.UNHEARD

    async def _log_in(self, actor: Actor, deed: Login) -> Outcome:
        """Whoever gets in must be refused there what it is refused elsewhere."""
        stage, options = self._stage, {}
        match deed.listener:
            case "websocket":
                wire = await Wire.open_websocket(stage.websocket_port)
            case "leaf node":
                wire = await Wire.open(stage.leaf_node_port)
                options = {"name": "leaf", "server_id": claims.generate("account").public}
            case _:
                wire = await Wire.open(stage.client_port)
        login = wire.login(stage.credentials_of(actor), **options)
        try:
            await wire.settle(login + (b"" if options else publish("anything", b"")))
        except HungUp:
            return _no_login(wire)
        finally:
            await wire.close()
        return Outcome.ALLOWED if _violation(wire) else Outcome.LEAKED

    async def _do_without_login(
        self, actor: Actor, deed: Deed, place: Mapping[str, str]
    ) -> Outcome:
        """In one breath with the login, so that nothing waits for its refusal."""
        token = _token()
        wire = await Wire.open(self._stage.client_port)
        login = wire.login(self._stage.credentials_of(actor))
        try:
            await wire.settle(login + _commands(deed, token, place))
        except HungUp:
            heard = wire.heard or await self._stage.overheard(token)
            return Outcome.LEAKED if heard else _no_login(wire)
        finally:
            await wire.close()
        return Outcome.ALLOWED


def _commands(deed: Deed, token: bytes, place: Mapping[str, str]) -> bytes:
    match deed:
        case Publish(subject=subject, headers=headers):
            return publish(subject, token, headers=headers)
        case Request(subject=subject, body=body):
            return publish(subject, body.encode() or token)
        case Subscribe(subject=subject, queue=queue):
            return subscribe(subject, _TRIED, queue=queue)
        case Divert(reply=reply):
            return publish(_report(place), token, reply=reply)
        case Swallow():
            return publish(_report(place), token, headers={"Nats-Msg-Id": token.decode()})
        case Report(headers=headers) | Peek(headers=headers):
            return publish(_report(place), token, headers=headers)
    raise AssertionError(deed)


def _filled(deed: Deed, place: Mapping[str, str]) -> Deed:
    """The same deed with its templates filled in."""

    def fill(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: fill(each) for name, each in value.items()}
        if isinstance(value, str):
            # Not str.format: some are JSON, whose braces are its own.
            for name, each in place.items():
                value = value.replace(f"{{{name}}}", each)
        return value

    return replace(deed, **{each.name: fill(getattr(deed, each.name)) for each in fields(deed)})


def _is_stray(attempt: Attempt, heard: Overheard) -> bool:
    """Neither the report itself, nor where only the server or an account's owner could listen."""
    subject = heard.message.subject
    if subject.endswith(attempt.report) or subject.startswith("_R_."):
        return False
    if heard.place != attempt.actor.tenant:
        return True
    return subject.startswith((f"tenant.{attempt.place['tenant']}.", "_INBOX."))


def _is_pub_ack(body: bytes) -> bool:
    return body.startswith(b"{") and set(json.loads(body)) == {"stream", "seq"}


def _report(place: Mapping[str, str]) -> str:
    return f"tenant.{place['tenant']}.device.{place['device']}.heartbeat"


def _token() -> bytes:
    return uuid4().hex.encode()


def _violation(wire: Wire) -> bool:
    return any("permissions violation" in error.lower() for error in wire.errors)


def _no_login(wire: Wire) -> Outcome:
    words = " ".join(wire.errors).lower()
    refused = any(refusal in words for refusal in _LOGIN_REFUSALS)
    return Outcome.NO_LOGIN if refused else Outcome.LEAKED
