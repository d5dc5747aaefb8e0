"""The auth callout beside a broker of the tests, and logins through it.

`Broker(..., callout=True)` asks the callout about everybody who brings no JWT; without one running
they wait for ten seconds and are refused.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import nats.errors
from nats.aio.client import Client

from natsbridge.client import system_account
from natsbridge.client.connection import connect
from natsbridge.identity import claims, nkeys
from natsbridge.identity.permissions import (
    CALLOUT_PERMISSIONS,
    SERVER_LIST_PERMISSIONS,
    Permissions,
)
from natsbridge.postgres.wakeups import Wakeups
from natsbridge.protocol.login_request import Login
from natsbridge.runtime import Runtime, Worker
from natsbridge.subscriber.callout import Admitted, Callout, Judge, Refused, Verdict
from tests.support.broker import Broker, Peer, Tenant
from tests.support.waiting import SAFETY_NET

# What `Wire.login(None, **options)` takes, or the CONNECT line of any other client.
ConnectOptions = dict[str, Any]


def by_password(username: str, password: str) -> ConnectOptions:
    return {"user": username, "pass": password}


def by_sentinel(broker: Broker) -> ConnectOptions:
    """The bearer JWT alone, as anybody may copy it."""
    return {"jwt": broker.sentinel}


def as_the_callout(broker: Broker) -> ConnectOptions:
    """Its user's public key for a username, about whom the server asks nobody."""
    return {"user": broker.callout_user.public, "pass": "x"}


class Doorkeeper:
    """A judge who knows these users: `admit` names what a login by username and password gets."""

    def __init__(self) -> None:
        self.asked: list[Login] = []
        self.rejections: list[str] = []
        # The callout's, as the status shows them.
        self.counters: Counter[str] = Counter()
        self._known: dict[tuple[str, str], Callable[[Login], str]] = {}

    def admit(self, username: str, password: str, user_jwt: Callable[[Login], str]) -> None:
        self._known[username, password] = user_jwt

    def admit_device(self, tenant: Tenant, device: UUID, password: str) -> ConnectOptions:
        """The login that opens this device's user."""

        def user_jwt(login: Login) -> str:
            return claims.device_user_jwt(
                tenant.device_key,
                account=tenant.account.public,
                device=device,
                user_public=login.user_key,
                issued_at=int(time.time()),
                expires_at=None,
                tags=["credential:1"],
            )

        self.admit(f"device_{device}", password, user_jwt)
        return by_password(f"device_{device}", password)

    def admit_tenant(self, tenant: Tenant, password: str) -> ConnectOptions:
        """The login that opens the tenant's own user."""

        def user_jwt(login: Login) -> str:
            return claims.tenant_user_jwt(
                tenant.tenant_key,
                account=tenant.account.public,
                tenant=tenant.uuid,
                user_public=login.user_key,
                issued_at=int(time.time()),
            )

        self.admit(f"tenant_{tenant.uuid}", password, user_jwt)
        return by_password(f"tenant_{tenant.uuid}", password)

    def judge(self, logins: Sequence[Login]) -> list[Verdict]:
        self.asked += logins
        return [self._verdict(login) for login in logins]

    def record_rejections(self, reasons: Sequence[str]) -> None:
        self.rejections += reasons

    def _verdict(self, login: Login) -> Verdict:
        user_jwt = self._known.get((login.username, login.password))
        if user_jwt is None or not login.is_by_a_client:
            return Refused("unknown here")
        return Admitted(user_jwt(login))


@asynccontextmanager
async def running_callout(
    broker: Broker, doorkeeper: Doorkeeper, *, judge: Judge | None = None, lonely: bool = False
) -> AsyncIterator[Callout]:
    """A callout that answers by then; `judge` takes the place of the doorkeeper's. A lonely one
    knows no server."""
    worker = Worker("callout")
    async with (
        _connection(broker, broker.callout_user, CALLOUT_PERMISSIONS) as connection,
        _connection(broker, None, SERVER_LIST_PERMISSIONS) as system,
    ):
        runtime = Runtime(connection, Wakeups(set()), "test", doorkeeper.counters)
        callout = Callout(
            runtime,
            connection,
            broker.auth,
            worker,
            judge=judge or doorkeeper.judge,
            record_rejections=doorkeeper.record_rejections,
            list_servers=_no_servers
            if lonely
            else lambda: system_account.server_ids(system.client),
        )
        running = asyncio.create_task(callout.run())
        await callout.listening.wait()
        try:
            yield callout
        finally:
            runtime.stopping.set()
            await running
            await worker.close()


async def _no_servers() -> frozenset[str]:
    return frozenset()


def _connection(broker: Broker, user: nkeys.KeyPair | None, permissions: Permissions) -> Any:
    account = broker.auth.account if user else broker.system
    user = user or nkeys.generate("user")
    jwt = claims.account_user_jwt(
        account,
        name="callout",
        user_public=user.public,
        issued_at=int(time.time()),
        permissions=permissions,
    )
    return connect(broker.url, user_jwt=lambda: jwt, seed=user.seed, name="callout")


async def log_in(broker: Broker, options: ConnectOptions, *, url: str = "") -> Peer:
    """As nats-py logs in with these; nats.errors.Error when the server does not let it in."""
    refusals: list[str] = []

    async def remember(error: Exception) -> None:
        refusals.append(str(error))

    client = Client()
    jwt = options.get("jwt")
    try:
        await client.connect(
            url or broker.url,
            user=options.get("user"),
            password=options.get("pass"),
            user_jwt_cb=(lambda: jwt.encode()) if jwt else None,
            signature_cb=(lambda nonce: b"") if jwt else None,
            error_cb=remember,
            allow_reconnect=False,
            connect_timeout=SAFETY_NET,
        )
    except (nats.errors.Error, OSError, asyncio.CancelledError):
        await asyncio.wait_for(client.close(), SAFETY_NET)
        raise
    return broker.remember(Peer(client, refusals))
