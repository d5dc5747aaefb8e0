"""Each kind of attack, done on the real server, and its outcome.

A client's commands are dealt with in order, and what they cause is in the other clients' queues
before its PONG is. So nothing here waits to find that a message did not come, except where
JetStream, which works on its own, could still answer.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from natsbridge.identity import nkeys
from natsbridge.identity.permissions import CALLOUT_SUBJECT
from tests.suites.attacks.commands import TRIED, commands, filled, report_subject
from tests.suites.attacks.deeds import (
    ADMITTED,
    Actor,
    Deed,
    Divert,
    Eavesdrop,
    Gainsay,
    Login,
    Outcome,
    Peek,
    Pose,
    Publish,
    Report,
    Request,
    Subscribe,
    Swallow,
)
from tests.suites.attacks.stage import PLATFORM, Overheard, Stage, home_of
from tests.suites.attacks.wire import Heard, HungUp, Wire, publish, subscribe

# How long JetStream and the server itself get to do what they must not.
JETSTREAM_SILENCE = 0.08

_ANSWERS = 1
_WEBSOCKET_PATHS = {"websocket": "/", "leaf node by websocket": "/leafnode", "mqtt": "/mqtt"}
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
        return self.report_of("response")

    def report_of(self, kind: str) -> str:
        return report_subject(self.place, kind)

    async def ask(
        self, subject: str, body: bytes, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any] | None:
        return await self.wire.ask(subject, body, inbox=self.place["inbox"], headers=headers)


class Machine:
    """Actors stay logged in from one attempt to the next."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._wires: dict[Actor, Wire] = {}
        # What no attempt so far has changed.
        self._streams: list[Any] = []

    async def close(self) -> None:
        for wire in self._wires.values():
            await wire.close()

    async def attempt(self, actor: Actor, deed: Deed) -> Outcome:
        place = self._stage.place(actor)
        deed = filled(deed, place)
        if isinstance(deed, Login):
            return await self._log_in(actor, deed)
        if isinstance(deed, Pose):
            return await self._pose(actor, deed)
        before = self._streams or await self._stage.streams()
        self._stage.forget()
        wire = await self._wire(actor, place)
        outcome = await self._do(Attempt(actor, place, wire, _token()), deed)
        self._streams = await self._stage.streams()
        return outcome if self._streams == before else Outcome.LEAKED

    async def attempt_all(self, actor: Actor, deeds: Sequence[Deed]) -> list[Outcome]:
        """Return each outcome. Those who must not be admitted try all they can do at one door."""
        if actor.credential in ADMITTED:
            return [await self.attempt(actor, deed) for deed in deeds]
        others = [deed for deed in deeds if not isinstance(deed, Login | Pose)]
        rest = iter(await self._do_without_login(actor, others))
        return [
            await self.attempt(actor, deed) if isinstance(deed, Login | Pose) else next(rest)
            for deed in deeds
        ]

    async def _wire(self, actor: Actor, place: Mapping[str, str]) -> Wire:
        wire = self._wires.get(actor)
        if wire is None:
            wire = self._wires[actor] = await self._stage.log_in(actor)
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
            case Eavesdrop():
                return await self._eavesdrop(attempt, deed)
            case Gainsay():
                return await self._gainsay(attempt)
        raise AssertionError(deed)

    async def _publish(self, attempt: Attempt, deed: Publish) -> Outcome:
        actor, wire = attempt.actor, attempt.wire
        await wire.settle(publish(deed.subject, attempt.token, headers=deed.headers))
        heard = await self._stage.overheard(attempt.token)
        if _violation(wire):
            return Outcome.LEAKED if heard else Outcome.REFUSED
        if not all(self._stage.may_be_heard(actor, each) for each in heard):
            return Outcome.LEAKED
        target = home_of(actor) if deed.local else PLATFORM
        return Outcome.ALLOWED if target in {each.place for each in heard} else Outcome.UNHEARD

    async def _subscribe(self, attempt: Attempt, deed: Subscribe) -> Outcome:
        wire, token = attempt.wire, attempt.token
        await wire.settle(subscribe(deed.subject, TRIED, queue=deed.queue))
        refused = _violation(wire)
        nobody_missed_anything = await self._stage.everybody_talks(token)
        # One that was refused is unknown to the server, which does not mind.
        await wire.settle(f"UNSUB {TRIED}\r\n".encode())
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
        answer = await attempt.ask(attempt.report_of(deed.kind), attempt.token, deed.headers)
        return Outcome.REFUSED if answer is None or "error" in answer else Outcome.ALLOWED

    async def _divert(self, attempt: Attempt, deed: Divert) -> Outcome:
        await attempt.wire.settle(publish(attempt.report, attempt.token, reply=deed.reply))
        if _violation(attempt.wire):
            return Outcome.REFUSED
        # Acknowledged after the one that was diverted.
        await attempt.ask(attempt.report, b"{}")
        if deed.reply.startswith("$"):
            await asyncio.sleep(JETSTREAM_SILENCE)
        heard = await self._stage.overheard(attempt.token, b'"stream":"INGEST"')
        strays = [each for each in heard if _is_stray(attempt, each)]
        if not strays:
            return Outcome.UNHEARD
        at_home = all(each.place[0] == attempt.actor.tenant for each in strays)
        wordless = all(_is_pub_ack(each.message.body) for each in strays)
        return Outcome.PUB_ACK if at_home and wordless else Outcome.LEAKED

    async def _swallow(self, attempt: Attempt, deed: Swallow) -> Outcome:
        # It can take a busy computer longer than the stream remembers.
        for number in range(1 if deed.seconds else 5):
            headers = {"Nats-Msg-Id": f"{attempt.token.decode()}{number}"}
            if await attempt.ask(attempt.report_of(deed.kind), attempt.token, headers) is None:
                return Outcome.REFUSED
            await asyncio.sleep(deed.seconds)
            answer = await self._stage.report(attempt.actor.other, deed.kind, headers)
            if answer.get("duplicate"):
                return Outcome.ALLOWED
        return Outcome.UNHEARD

    async def _peek(self, attempt: Attempt, deed: Peek) -> Outcome:
        secret = uuid4().hex
        stored = await self._stage.report(attempt.actor.other, deed.kind, {"Nats-Msg-Id": secret})
        answer = await attempt.ask(attempt.report_of(deed.kind), attempt.token, deed.headers)
        if answer is None or "error" not in answer:
            return Outcome.REFUSED
        told = answer["error"]["description"].rpartition(": ")[2]
        return Outcome.ALLOWED if told in (secret, str(stored["seq"])) else Outcome.UNHEARD

    async def _log_in(self, actor: Actor, deed: Login) -> Outcome:
        """An actor that gets in must be refused there what it is refused elsewhere."""
        stage, options = self._stage, {}
        try:
            match deed.listener:
                case "client":
                    wire = await Wire.open(stage.client_port)
                case "leaf node":
                    wire = await Wire.open(stage.leaf_node_port)
                    options = {"name": "leaf", "server_id": nkeys.generate("account").public}
                case _:
                    path = _WEBSOCKET_PATHS[deed.listener]
                    wire = await Wire.open_websocket(stage.websocket_port, path)
        except HungUp:
            return Outcome.NO_LOGIN
        login = stage.login_of(actor, wire, **options)
        try:
            await wire.settle(login + (b"" if options else publish("anything", b"")))
        except HungUp:
            return _no_login(wire)
        finally:
            await wire.close()
        return Outcome.ALLOWED if _violation(wire) else Outcome.LEAKED

    async def _pose(self, actor: Actor, deed: Pose) -> Outcome:
        self._stage.forget()
        wire = await Wire.open(self._stage.client_port)
        login = self._stage.login_of(actor, wire, nkey=deed.name)
        try:
            await wire.settle(login)
            who = await self._stage.who_came(wire)
        except HungUp:
            return _no_login(wire)
        finally:
            await wire.close()
        return Outcome.ALLOWED if deed.name in (who.name, who.public) else Outcome.UNHEARD

    async def _eavesdrop(self, attempt: Attempt, deed: Eavesdrop) -> Outcome:
        wire = attempt.wire
        await wire.settle(subscribe(CALLOUT_SUBJECT, TRIED, queue=deed.queue))
        admitted = await self._stage.somebody_logs_in()
        await wire.settle(f"UNSUB {TRIED}\r\n".encode())
        questions = _questions(wire)
        if not admitted or any(map(self._stage.gives_away_a_password, questions)):
            return Outcome.LEAKED
        if _violation(wire):
            return Outcome.LEAKED if questions else Outcome.REFUSED
        sealed = questions and not any(each.body.startswith(b"ey") for each in questions)
        return Outcome.SEALED if sealed else Outcome.ALLOWED

    async def _gainsay(self, attempt: Attempt) -> Outcome:
        wire, stage = attempt.wire, self._stage
        await wire.settle(subscribe(CALLOUT_SUBJECT, TRIED))
        if refused := _violation(wire):
            # It goes on without having heard a question.
            await wire.settle(publish("$SYS._INBOX.guess", attempt.token))
        else:
            stage.callout_may_answer.clear()
        login = asyncio.create_task(stage.somebody_logs_in())
        try:
            while not refused and not (questions := _questions(wire)):
                await wire.settle()
            answers = [] if refused else [publish(each.reply, b"no") for each in questions]
            await wire.settle(b"".join(answers) + f"UNSUB {TRIED}\r\n".encode())
            admitted = await login
        finally:
            stage.callout_may_answer.set()
        if refused:
            return Outcome.REFUSED if admitted else Outcome.LEAKED
        return Outcome.UNHEARD if admitted else Outcome.ALLOWED

    async def _do_without_login(self, actor: Actor, deeds: Sequence[Deed]) -> list[Outcome]:
        """In one breath with the login, so that nothing waits for its refusal."""
        stage = self._stage
        place, before = stage.place(actor), self._streams or await stage.streams()
        stage.forget()
        tokens = [_token() for _ in deeds]
        wire = await Wire.open(stage.client_port)
        said = [
            commands(filled(deed, place), token, place)
            for deed, token in zip(deeds, tokens, strict=True)
        ]
        try:
            await wire.settle(stage.login_of(actor, wire) + b"".join(said))
        except HungUp:
            outcome = _no_login(wire)
        else:
            outcome = Outcome.ALLOWED
        finally:
            await wire.close()
        self._streams = await stage.streams()
        if wire.heard or self._streams != before:
            outcome = Outcome.LEAKED
        heard = {each.message.body for each in await stage.overheard(*tokens)}
        return [
            Outcome.LEAKED if any(token in body for body in heard) else outcome for token in tokens
        ]


def _is_stray(attempt: Attempt, heard: Overheard) -> bool:
    """Neither the report itself, nor where only the server or an account's owner could listen."""
    subject = heard.message.subject
    answer = f"{attempt.place['inbox']}.answer."
    if subject.endswith(attempt.report) or subject.startswith(("_R_.", answer)):
        return False
    if heard.place != attempt.actor.tenant:
        return True
    return subject.startswith((f"tenant.{attempt.place['tenant']}.", "_INBOX."))


def _is_pub_ack(body: bytes) -> bool:
    return body.startswith(b"{") and set(json.loads(body)) == {"stream", "seq"}


def _questions(wire: Wire) -> list[Heard]:
    return [each for each in wire.heard if each.subject == CALLOUT_SUBJECT]


def _token() -> bytes:
    return uuid4().hex.encode()


def _violation(wire: Wire) -> bool:
    return any("permissions violation" in error.lower() for error in wire.errors)


def _no_login(wire: Wire) -> Outcome:
    words = " ".join(wire.errors).lower()
    refused = any(refusal in words for refusal in _LOGIN_REFUSALS)
    return Outcome.NO_LOGIN if refused else Outcome.LEAKED
