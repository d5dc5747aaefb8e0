"""Where the attacks take place: tenants that work, credentials good and bad, everybody's ears."""

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from natsbridge.identity import claims, nkeys
from natsbridge.identity.claims import AccountLimits
from natsbridge.identity.jwt import decode_jwt
from natsbridge.identity.nkeys import KeyPair
from natsbridge.identity.permissions import CALLOUT_PERMISSIONS, Permissions
from natsbridge.jetstream import declarations
from natsbridge.protocol import subjects
from natsbridge.protocol.broker_events import BrokerUser, read_event
from natsbridge.protocol.login_request import Login
from natsbridge.subscriber.callout import Verdict
from tenants.callout.judge import Gatekeeper
from tests.suites.attacks.deeds import TENANTS, Actor, Credential
from tests.suites.attacks.registration import Registered
from tests.suites.attacks.wire import Credentials, Heard, HungUp, Wire, publish, subscribe
from tests.support.broker import Broker, Tenant
from tests.support.callout import (
    ConnectOptions,
    Doorkeeper,
    as_the_callout,
    by_sentinel,
    running_callout,
)
from tests.support.waiting import SAFETY_NET

PLATFORM, SYSTEM, AUTH = "platform", "system", "auth"
WORKING_DEVICES = ("A1", "A2", "B1", "B2")


@dataclass(frozen=True, slots=True)
class Overheard:
    """A message, and where: an account's name, or a device's (`A1`)."""

    place: str
    message: Heard


class Stage:
    """Each account's owner hears everything there, each device its commands and its inbox.

    `client_port`, `websocket_port` and `leaf_node_port` are the broker's listeners. The callout
    that runs beside it decides by the rows of the database.
    """

    def __init__(self, broker: Broker, leaf_node_port: int, registered: Registered) -> None:
        self.client_port = broker.config.port
        self.websocket_port = broker.config.websocket_port or 0
        self.leaf_node_port = leaf_node_port
        self._broker = broker
        self._server = broker.server_id
        self._tenants = registered.tenants
        self._devices = registered.devices
        self._passwords = registered.logins
        self._spoilt: dict[Credential, Credentials] = {}
        self._ears: dict[str, Wire] = {}
        # Cleared, it keeps the callout from answering.
        self.callout_may_answer = threading.Event()
        self.callout_may_answer.set()
        self._closing = asyncio.Event()
        self._callout: asyncio.Task[None] | None = None

    async def prepare(self) -> None:
        broker = self._broker
        await broker.ensure_ingest()
        for tenant in self._tenants.values():
            await broker.make(tenant)
        await self._spoil_credentials()
        accounts = {name: self._tenants[name].account for name in "AB"}
        accounts |= {PLATFORM: broker.platform, SYSTEM: broker.system}
        for name, account in accounts.items():
            await self._listen_as(name, _user(account))
        await self._listen_as(AUTH, _user(broker.auth.account, broker.callout_user))
        listening = asyncio.Event()
        self._callout = asyncio.create_task(self._answer_logins(listening))
        await listening.wait()
        for name in WORKING_DEVICES:
            tenant, device = self._tenants[name[0]], self._devices[name]
            self._ears[name] = await self._log_in(broker.device_credentials(tenant, device))
            command = subjects.device_subject(tenant.uuid, device, "command")
            inbox = f"{subjects.device_inbox(device)}.>"
            # A stream that is not empty shows a purge.
            reports = [
                publish(subjects.device_subject(tenant.uuid, device, kind), b"{}")
                for kind in ("heartbeat", "response")
            ]
            await self._ears[name].settle(
                subscribe(command, 1) + subscribe(inbox, 2) + b"".join(reports)
            )

    async def close(self) -> None:
        self._closing.set()
        if self._callout:
            await self._callout
        for wire in self._ears.values():
            await wire.close()
        await self._broker.disconnect()

    async def log_in(self, actor: Actor) -> Wire:
        wire = await Wire.open(self.client_port)
        await wire.settle(self.login_of(actor, wire))
        return wire

    def login_of(self, actor: Actor, wire: Wire, **options: Any) -> bytes:
        """The CONNECT line with which this actor tries to log in."""
        credentials, own = self._credentials_of(actor)
        return wire.login(credentials, **own, **options)

    def _credentials_of(self, actor: Actor) -> tuple[Credentials, ConnectOptions]:
        broker, tenant = self._broker, self._tenants[actor.tenant]
        match actor.credential:
            case Credential.DEVICE:
                return broker.device_credentials(tenant, self._devices[actor.device]), {}
            case Credential.TENANT:
                return _tenant_credentials(tenant), {}
            case Credential.CALLOUT:
                user = _user(broker.auth.account, broker.callout_user, CALLOUT_PERMISSIONS)
                return user, {}
            case Credential.NONE:
                return None, {}
            case Credential.SENTINEL:
                return None, by_sentinel(broker)
            case Credential.CALLOUT_NAME:
                return None, as_the_callout(broker)
        if actor.credential in self._passwords:
            return None, self._passwords[actor.credential]
        return self._spoilt[actor.credential], {}

    async def somebody_logs_in(self) -> bool:
        """Log a device in by its good password; return whether it was admitted."""
        wire = await Wire.open(self.client_port)
        try:
            await wire.settle(wire.login(None, **self._passwords[Credential.DEVICE_PASSWORD]))
        except HungUp:
            return False
        finally:
            await wire.close()
        return True

    async def who_came(self, wire: Wire) -> BrokerUser:
        """By the broker's event about this connection, as the platform reads it."""
        ear = self._ears[PLATFORM]
        async with asyncio.timeout(SAFETY_NET):
            while True:
                for each in ear.heard:
                    if each.subject.startswith("broker.") and each.subject.endswith(".connect"):
                        event = read_event(each.subject, each.body)
                        if event.client == wire.number:
                            return event.user
                await ear.settle()

    def gives_away_a_password(self, heard: Heard) -> bool:
        return any(login["pass"].encode() in heard.body for login in self._passwords.values())

    async def _answer_logins(self, listening: asyncio.Event) -> None:
        gatekeeper = Gatekeeper()

        def judge(logins: Sequence[Login]) -> Sequence[Verdict]:
            self.callout_may_answer.wait(SAFETY_NET)
            return gatekeeper.judge(logins)

        async with running_callout(self._broker, Doorkeeper(), judge=judge):
            listening.set()
            await self._closing.wait()

    async def _listen_as(self, name: str, credentials: Credentials) -> None:
        self._ears[name] = await self._log_in(credentials)
        await self._ears[name].settle(subscribe(">", 1))

    async def _log_in(self, credentials: Credentials) -> Wire:
        wire = await Wire.open(self.client_port)
        await wire.settle(wire.login(credentials))
        return wire

    def place(self, actor: Actor) -> dict[str, str]:
        """The values of the templates from where this actor stands."""
        own, other = self._tenants[actor.tenant], self._tenants[actor.other[0]]
        device = self._devices[actor.device]
        tenant_wide = actor.credential in TENANTS
        return {
            "server": self._server,
            "tenant": str(own.uuid),
            "account": own.account.public,
            "stream": subjects.tenant_stream_name(own.uuid),
            "inbox": "_INBOX" if tenant_wide else subjects.device_inbox(device),
            "device": str(device),
            "sibling": str(self._devices[actor.sibling]),
            "other_tenant": str(other.uuid),
            "other_account": other.account.public,
            "other_stream": subjects.tenant_stream_name(other.uuid),
            "other_device": str(self._devices[actor.other]),
        }

    async def overheard(self, *marks: bytes) -> list[Overheard]:
        """Every message heard since `forget` that has one of these in its body."""
        await asyncio.gather(*(wire.settle() for wire in self._ears.values()))
        return [
            Overheard(name, message)
            for name, wire in self._ears.items()
            for message in wire.heard
            if any(mark in message.body for mark in marks)
        ]

    def forget(self) -> None:
        for wire in self._ears.values():
            wire.heard.clear()

    def may_be_heard(self, actor: Actor, heard: Overheard) -> bool:
        """In the actor's own account, or in the platform's with the actor's account named."""
        if heard.place == PLATFORM:
            account = self._tenants[actor.tenant].account.public
            return heard.message.subject.startswith(f"ingest.{account}.")
        return heard.place == home_of(actor)

    async def everybody_talks(self, token: bytes) -> bool:
        """On every family of subjects, with the tenant's letter after the token.

        Returns whether every device heard what is meant for it, and heard it once.
        """
        commands = b""
        for name in "AB":
            tenant, body = self._tenants[name], token + name.encode()
            talk = publish("_INBOX.other", body)
            for device in (f"{name}1", f"{name}2"):
                uuid = self._devices[device]
                for subject in (
                    subjects.device_subject(tenant.uuid, uuid, "heartbeat"),
                    f"demo.system.{uuid}.cpu_percent",
                    f"{subjects.device_inbox(uuid)}.other",
                ):
                    talk += publish(subject, body)
                commands += publish(subjects.command_export(tenant.account.public, uuid), body)
            await self._ears[name].settle(talk)
        await self._ears[PLATFORM].settle(commands)
        heard = sorted(each.place for each in await self.overheard(token))
        # A command and an answer in the inbox.
        return [each for each in heard if each in WORKING_DEVICES] == sorted(WORKING_DEVICES * 2)

    async def report(self, device: str, kind: str, headers: Mapping[str, str]) -> dict[str, Any]:
        """This working device reports; the stream's answer."""
        uuid = self._devices[device]
        subject = subjects.device_subject(self._tenants[device[0]].uuid, uuid, kind)
        inbox = subjects.device_inbox(uuid)
        return await self._ears[device].ask(subject, b"{}", inbox=inbox, headers=headers) or {}

    async def streams(self) -> list[Any]:
        """What no attack may change: each stream's configuration, its number of consumers, and its
        first message, or of those that forget, LATEST and the tenants', whether there is one."""
        names = {name: [subjects.tenant_stream_name(self._tenants[name].uuid)] for name in "AB"}
        names[PLATFORM] = [
            declarations.INGEST,
            declarations.LATEST,
            declarations.BROKER,
            declarations.DLQ,
        ]
        found = await asyncio.gather(*(self._state(*each) for each in names.items()))
        return list(found)

    async def _state(self, ear: str, names: Sequence[str]) -> list[Any]:
        found = []
        for stream in names:
            request = f"$JS.API.STREAM.INFO.{stream}"
            answer = await self._ears[ear].ask(request, b"", inbox="_INBOX") or {}
            state = answer.get("state", {})
            first = state.get("first_seq")
            if stream not in (declarations.INGEST, declarations.BROKER, declarations.DLQ):
                first = bool(state.get("messages"))
            found.append((answer.get("config"), first, state.get("consumer_count")))
        return found

    async def _spoil_credentials(self) -> None:
        """Credentials that were good once, and one that never was."""
        broker, now = self._broker, int(time.time())
        tenant, suspended, device = self._tenants["A"], self._tenants["C"], self._devices["A3"]
        revoked = broker.device_credentials(tenant, device)
        await broker.push(tenant, revocations={decode_jwt(revoked[0])["sub"]: now + 1})
        suspended_device = broker.device_credentials(suspended, self._devices["C1"])
        await broker.push(suspended, limits=AccountLimits(connections=0))
        stranger = replace(tenant, device_key=nkeys.generate("account"))
        user = nkeys.generate("user")
        expired = claims.device_user_jwt(
            tenant.device_key,
            account=tenant.account.public,
            device=device,
            user_public=user.public,
            issued_at=now - 3600,
            expires_at=now - 1,
        )
        self._spoilt |= {
            Credential.REVOKED: revoked,
            Credential.EXPIRED: (expired, user.seed),
            Credential.SUSPENDED: suspended_device,
            Credential.FOREIGN: broker.device_credentials(stranger, self._devices["A1"]),
        }


def home_of(actor: Actor) -> str:
    """Where the actor's account is heard."""
    return AUTH if actor.credential is Credential.CALLOUT else actor.tenant


def _user(
    account: KeyPair, user: KeyPair | None = None, permissions: Permissions | None = None
) -> Credentials:
    """Of this account; without `permissions` it may do all there."""
    user = user or nkeys.generate("user")
    jwt = claims.account_user_jwt(
        account, name="ear", user_public=user.public, issued_at=1, permissions=permissions
    )
    return jwt, user.seed


def _tenant_credentials(tenant: Tenant) -> Credentials:
    user = nkeys.generate("user")
    jwt = claims.tenant_user_jwt(
        tenant.tenant_key,
        account=tenant.account.public,
        tenant=tenant.uuid,
        user_public=user.public,
        issued_at=int(time.time()),
    )
    return jwt, user.seed
