"""Where the attacks take place: tenants that work, credentials good and bad, everybody's ears."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

from natsbridge import claims, streams, subjects
from natsbridge.claims import AccountLimits, KeyPair
from tests.attacks.table import Actor, Credential
from tests.attacks.wire import Credentials, Heard, Wire, publish, subscribe
from tests.broker import Broker, Tenant

PLATFORM, SYSTEM = "platform", "system"
WORKING_DEVICES = ("A1", "A2", "B1", "B2")


@dataclass(frozen=True, slots=True)
class Overheard:
    """A message, and where: an account's name, or a device's (`A1`)."""

    place: str
    message: Heard


class Stage:
    """Each account's owner hears everything there, each device its commands and its inbox.

    `client_port`, `websocket_port` and `leaf_node_port` are the broker's listeners.
    """

    def __init__(self, broker: Broker, leaf_node_port: int) -> None:
        self.client_port = broker.config.port
        self.websocket_port = broker.config.websocket_port or 0
        self.leaf_node_port = leaf_node_port
        self._broker = broker
        self._tenants: dict[str, Tenant] = {}
        self._devices = {name: uuid4() for name in (*WORKING_DEVICES, "A3", "C1", "C2")}
        self._spoilt: dict[Credential, Credentials] = {Credential.NONE: None}
        self._ears: dict[str, Wire] = {}

    async def prepare(self) -> None:
        broker = self._broker
        await broker.ensure_ingest()
        for name in "ABC":
            self._tenants[name] = await broker.provision()
        await self._spoil_credentials()
        accounts = {name: self._tenants[name].account for name in "AB"}
        accounts |= {PLATFORM: broker.platform, SYSTEM: broker.system}
        for name, account in accounts.items():
            self._ears[name] = await self.log_in(_owner(account))
            await self._ears[name].settle(subscribe(">", 1))
        for name in WORKING_DEVICES:
            tenant, device = self._tenants[name[0]], self._devices[name]
            self._ears[name] = await self.log_in(broker.device_credentials(tenant, device))
            command = subjects.device_subject(tenant.uuid, device, "command")
            inbox = f"{subjects.device_inbox(device)}.>"
            # A stream that is not empty shows a purge.
            report = subjects.device_subject(tenant.uuid, device, "heartbeat")
            await self._ears[name].settle(
                subscribe(command, 1) + subscribe(inbox, 2) + publish(report, b"{}")
            )

    async def close(self) -> None:
        for wire in self._ears.values():
            await wire.close()
        await self._broker.disconnect()

    async def log_in(self, credentials: Credentials) -> Wire:
        wire = await Wire.open(self.client_port)
        await wire.settle(wire.login(credentials))
        return wire

    def credentials_of(self, actor: Actor) -> Credentials:
        tenant = self._tenants[actor.tenant]
        match actor.credential:
            case Credential.DEVICE:
                return self._broker.device_credentials(tenant, self._devices[actor.device])
            case Credential.TENANT:
                return _tenant_credentials(tenant)
        return self._spoilt[actor.credential]

    def place(self, actor: Actor) -> dict[str, str]:
        """The values of the templates from where this actor stands."""
        own, other = self._tenants[actor.tenant], self._tenants[actor.other[0]]
        device = self._devices[actor.device]
        tenant_wide = actor.credential is Credential.TENANT
        return {
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
        return heard.place == actor.tenant

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
                    subjects.metric_subject(uuid, "cpu_percent"),
                    f"{subjects.device_inbox(uuid)}.other",
                ):
                    talk += publish(subject, body)
                commands += publish(subjects.command_export(tenant.account.public, uuid), body)
            await self._ears[name].settle(talk)
        await self._ears[PLATFORM].settle(commands)
        heard = sorted(each.place for each in await self.overheard(token))
        # A command and an answer in the inbox.
        return [each for each in heard if each in WORKING_DEVICES] == sorted(WORKING_DEVICES * 2)

    async def report(self, device: str, headers: Mapping[str, str]) -> dict[str, Any]:
        """This working device reports; INGEST's answer."""
        uuid = self._devices[device]
        subject = subjects.device_subject(self._tenants[device[0]].uuid, uuid, "heartbeat")
        inbox = subjects.device_inbox(uuid)
        return await self._ears[device].ask(subject, b"{}", inbox=inbox, headers=headers) or {}

    async def streams(self) -> list[Any]:
        """What no attack may change: each stream's configuration and its first message."""
        names = {name: subjects.tenant_stream_name(self._tenants[name].uuid) for name in "AB"}
        found = []
        for ear, stream in (names | {PLATFORM: streams.INGEST}).items():
            request = f"$JS.API.STREAM.INFO.{stream}"
            answer = await self._ears[ear].ask(request, b"", inbox="_INBOX") or {}
            found.append((answer.get("config"), answer.get("state", {}).get("first_seq")))
        return found

    async def _spoil_credentials(self) -> None:
        """Credentials that were good once, and one that never was."""
        broker, now = self._broker, int(time.time())
        tenant, suspended, device = self._tenants["A"], self._tenants["C"], self._devices["A3"]
        revoked = broker.device_credentials(tenant, device)
        await broker.push(tenant, revocations={claims.decode(revoked[0])["sub"]: now + 1})
        suspended_device = broker.device_credentials(suspended, self._devices["C1"])
        await broker.push(suspended, limits=AccountLimits(connections=0))
        stranger = replace(tenant, device_key=claims.generate("account"))
        user = claims.generate("user")
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


def _owner(account: KeyPair) -> Credentials:
    user = claims.generate("user")
    jwt = claims.account_user_jwt(account, name="ear", user_public=user.public, issued_at=1)
    return jwt, user.seed


def _tenant_credentials(tenant: Tenant) -> Credentials:
    user = claims.generate("user")
    jwt = claims.tenant_user_jwt(
        tenant.tenant_key,
        account=tenant.account.public,
        tenant=tenant.uuid,
        user_public=user.public,
        issued_at=int(time.time()),
    )
    return jwt, user.seed
