"""A broker for tests: real keys, a real nats-server, and one line for each tenant and client."""

import asyncio
import base64
import json
import ssl
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self
from uuid import UUID, uuid4

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from natsbridge.client import system_account
from natsbridge.identity import claims, nkeys, xkeys
from natsbridge.identity.claims import AccountLimits, TenantAccount
from natsbridge.identity.nkeys import KeyPair
from natsbridge.identity.permissions import (
    PROVISIONER_PERMISSIONS,
    SUBSCRIBER_PERMISSIONS,
    SYSTEM_PERMISSIONS,
    Permissions,
)
from natsbridge.jetstream import declarations, streams
from natsbridge.protocol import subjects
from natsbridge.protocol.login_request import Authority, sentinel_jwt
from natsbridge.server.config import ServerConfig, render
from tests.plugin import allot_port
from tests.support import waiting
from tests.support.waiting import SAFETY_NET
from wegweiser.quickstart.servers import Nats

StartNats = Callable[..., Nats]

# How long a test listens for what must not come, once what must come has.
SILENCE = 0.15


eventually = waiting.aeventually


def metric_subject(device: UUID, metric_type: str) -> str:
    """Return the subject of a live metric, inside the account of the device's tenant."""
    return f"demo.system.{device}.{metric_type}"


@dataclass
class Tenant:
    """A tenant's account as the broker knows it, with all its private keys."""

    uuid: UUID
    account: KeyPair
    device_key: KeyPair
    tenant_key: KeyPair

    @classmethod
    def generate(cls, uuid: UUID) -> Self:
        return cls(uuid, *(nkeys.generate("account") for _ in range(3)))


@dataclass
class Peer:
    """A connected client that remembers what it heard and what the server refused it."""

    client: Client
    refusals: list[str]
    heard: list[Msg] = field(default_factory=list)

    @property
    def jetstream(self) -> JetStreamContext:
        return self.client.jetstream(timeout=SAFETY_NET)

    async def listen(self, subject: str) -> None:
        """Subscribe; returns when the server has taken the subscription or refused it."""

        async def hear(message: Msg) -> None:
            self.heard.append(message)

        await self.client.subscribe(subject, cb=hear)
        await self.settle()

    async def publish(self, subject: str, body: bytes = b"{}", **options: Any) -> None:
        """Publish; returns when the server has taken the message or refused it."""
        await self.client.publish(subject, body, **options)
        await self.settle()

    async def settle(self) -> None:
        """Until the server has dealt with all that was sent. Twice, because nats-py's first ping
        overtakes what is still in its own buffer."""
        await self.client.flush(SAFETY_NET)
        await self.client.flush(SAFETY_NET)

    async def may_publish(self, subject: str, **options: Any) -> bool:
        await self.publish(subject, **options)
        return not self.was_refused(f'publish to "{subject}"')

    async def may_subscribe(self, subject: str) -> bool:
        await self.listen(subject)
        return not self.was_refused(f'subscription to "{subject}"')

    def was_refused(self, what: str) -> bool:
        # nats-py turns the server's words to lower case.
        return any(what.lower() in refusal.lower() for refusal in self.refusals)


class Broker:
    """A nats-server in operator mode with the accounts SYS and WEGWEISER, and INGEST if asked.

    `start` is one of the fixtures `start_nats` and `start_session_nats`; `settings` go to
    ServerConfig, `additional` is appended to what it renders. With `callout` it has the account
    AUTH too, and asks `tests.support.callout` about logins without a JWT. A broker may outlive
    an event loop, its clients may not: `await broker.disconnect()` at the end of each test.
    """

    def __init__(
        self,
        start: StartNats,
        home: Path,
        *,
        additional: str = "",
        callout: bool = False,
        **settings: Any,
    ) -> None:
        self.operator = nkeys.generate("operator")
        self.system = nkeys.generate("account")
        self.platform = nkeys.generate("account")
        self._issued_at = int(time.time()) - 3600
        self.auth = Authority(nkeys.generate("account"), xkeys.generate())
        self.callout_user = nkeys.generate("user")
        self._sentinel_user = nkeys.generate("user")
        self.config = ServerConfig(
            server_name="test",
            port=allot_port(),
            monitor_port=allot_port(),
            store_dir=home / "jetstream",
            resolver_dir=home / "accounts",
            operator_jwt=claims.operator_jwt(
                self.operator, system_account=self.system.public, issued_at=self._issued_at
            ),
            system_account=self.system.public,
            preload={
                self.system.public: claims.system_account_jwt(
                    self.operator, self.system.public, issued_at=self._issued_at
                ),
                self.platform.public: claims.platform_account_jwt(
                    self.operator,
                    self.platform.public,
                    system_account=self.system.public,
                    issued_at=self._issued_at,
                ),
            },
            **settings,
        )
        if callout:
            self.add_callout()
        self._clients: list[Client] = []
        self._options: dict[str, Any] = {}
        self._additional = additional
        self._start = start
        self.server = self.start()

    def add_callout(self) -> None:
        """To the configuration that the next `start` renders."""
        preload = {**self.config.preload, self.auth.account.public: self._callout_account_jwt()}
        self.config = replace(self.config, preload=preload, default_sentinel=self.sentinel)

    def _callout_account_jwt(self) -> str:
        return claims.callout_account_jwt(
            self.operator,
            self.auth.account.public,
            user_public=self.callout_user.public,
            xkey=self.auth.xkey.public,
            issued_at=self._issued_at,
        )

    @property
    def sentinel(self) -> str:
        """The bearer JWT of those who bring none."""
        return sentinel_jwt(
            self.auth.account, user_public=self._sentinel_user.public, issued_at=self._issued_at
        )

    @property
    def url(self) -> str:
        return f"nats://{self.config.host}:{self.config.port}"

    def trust_own_certificate(self) -> None:
        """From now on its clients do, where they are not told otherwise."""
        assert self.config.tls is not None
        self._options["tls"] = ssl.create_default_context(cafile=self.config.tls.certificate)

    def start(self) -> Nats:
        """Start the server; again, with the data it had, after `broker.server.stop()`."""
        self.server = self._start(
            render(self.config) + self._additional,
            port=self.config.port,
            monitor_port=self.config.monitor_port,
        )
        return self.server

    def monitor(self, page: str) -> Any:
        """A page of the server's monitoring, such as `/varz`."""
        url = f"{self.server.monitor_url}{page}"
        with urllib.request.urlopen(url, timeout=SAFETY_NET) as answer:
            return json.load(answer)

    @property
    def server_id(self) -> str:
        return str(self.monitor("/varz")["server_id"])

    async def ensure_ingest(self) -> JetStreamContext:
        """The platform's streams and their consumers, empty."""
        platform = await self.connect_as(self.platform)
        for declaration in declarations.platform_streams(ingest_max_bytes=64 * 1024**2):
            await streams.ensure(platform.jetstream, declaration)
            await platform.jetstream.purge_stream(declaration.name)
        return platform.jetstream

    async def remove_ingest(self) -> None:
        """And LATEST: nothing that devices say is stored."""
        platform = await self.connect_as(self.platform)
        for name in (declarations.INGEST, declarations.LATEST):
            await platform.jetstream.delete_stream(name)

    async def provision(self, tenant: UUID | None = None, **changes: Any) -> Tenant:
        """A new tenant: its account pushed and its stream made. `changes` go to TenantAccount."""
        return await self.make(Tenant.generate(tenant or uuid4()), **changes)

    async def make(self, tenant: Tenant, **changes: Any) -> Tenant:
        """The same with keys that there are already."""
        await self.push(tenant, **changes)
        provisioner = await self.connect_as(tenant.account, PROVISIONER_PERMISSIONS)
        await streams.ensure(provisioner.jetstream, declarations.tenant_stream(tenant.uuid))
        return tenant

    async def push(self, tenant: Tenant, **changes: Any) -> str:
        """Push the account's claims; the JWT."""
        jwt = self.account_jwt(tenant, **changes)
        system = await self.connect_system()
        await system_account.push(system.client, jwt)
        return jwt

    def account_jwt(
        self, tenant: Tenant, *, limits: AccountLimits | None = None, **changes: Any
    ) -> str:
        """Each one is newer than the one before, as the servers want it."""
        self._issued_at += 1
        account = TenantAccount(
            public=tenant.account.public,
            tenant=tenant.uuid,
            platform_account=self.platform.public,
            device_key=tenant.device_key.public,
            tenant_key=tenant.tenant_key.public,
            limits=limits or AccountLimits(),
            **changes,
        )
        return claims.tenant_account_jwt(self.operator, account, issued_at=self._issued_at)

    async def connect_system(self) -> Peer:
        return await self.connect_as(self.system, SYSTEM_PERMISSIONS)

    async def connect_subscriber(self) -> Peer:
        return await self.connect_as(self.platform, SUBSCRIBER_PERMISSIONS)

    async def connect_as(
        self, account: KeyPair, permissions: Permissions | None = None, **options: Any
    ) -> Peer:
        """A user signed by the account's own key; without `permissions` it may do all there."""
        user = nkeys.generate("user")
        jwt = claims.account_user_jwt(
            account,
            name="test",
            user_public=user.public,
            issued_at=int(time.time()),
            permissions=permissions,
        )
        return await self.connect(jwt, user.seed, **options)

    async def connect_device(self, tenant: Tenant, device: UUID, **options: Any) -> Peer:
        options = {"inbox_prefix": subjects.device_inbox(device)} | options
        return await self.connect(*self.device_credentials(tenant, device), **options)

    def device_credentials(self, tenant: Tenant, device: UUID) -> tuple[str, str]:
        """A JWT for a new user of this device, and the user's seed."""
        user = nkeys.generate("user")
        jwt = claims.device_user_jwt(
            tenant.device_key,
            account=tenant.account.public,
            device=device,
            user_public=user.public,
            issued_at=int(time.time()),
            expires_at=int(time.time()) + 3600,
        )
        return jwt, user.seed

    async def connect_tenant(self, tenant: Tenant) -> Peer:
        user = nkeys.generate("user")
        jwt = claims.tenant_user_jwt(
            tenant.tenant_key,
            account=tenant.account.public,
            tenant=tenant.uuid,
            user_public=user.public,
            issued_at=int(time.time()),
        )
        return await self.connect(jwt, user.seed)

    async def connect(self, jwt: str, seed: str, **options: Any) -> Peer:
        """One attempt; nats.errors.Error when the server does not let it in."""
        refusals: list[str] = []

        async def remember(error: Exception) -> None:
            refusals.append(str(error))

        client = Client()
        self._clients.append(client)
        await client.connect(
            **{
                "servers": self.url,
                "user_jwt_cb": lambda: jwt.encode(),
                "signature_cb": lambda nonce: base64.b64encode(nkeys.sign(seed, nonce.encode())),
                "error_cb": remember,
                "allow_reconnect": False,
                "connect_timeout": SAFETY_NET,
            }
            | self._options
            | options
        )
        return Peer(client, refusals)

    def remember(self, peer: Peer) -> Peer:
        """To be closed with the others."""
        self._clients.append(peer.client)
        return peer

    async def disconnect(self) -> None:
        """Close every client that was made here."""
        for client in self._clients:
            # After a failed TLS handshake nats-py would wait for ever.
            with suppress(nats.errors.Error, OSError):
                await asyncio.wait_for(client.close(), 1)
        self._clients.clear()
