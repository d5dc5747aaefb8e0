"""The side task that lets in those who bring a password to the broker."""

import asyncio
from contextlib import AbstractAsyncContextManager

import structlog
from django.conf import settings

from natsbridge import accounts
from natsbridge.callout import Callout
from natsbridge.connection import Connection, connect
from natsbridge.runtime import DATABASE_AWAY, Runtime, Worker
from tenants import broker
from tenants.callout import Gatekeeper

log = structlog.get_logger(__name__)

FLUSH_SECONDS = 15.0


async def answer_logins(runtime: Runtime) -> None:
    """Until stopping, over connections of its own: one in the callout's account, and one in the
    system account that asks which servers there are."""
    worker = Worker("auth")
    gatekeeper = Gatekeeper()
    try:
        authority = await worker.run(broker.callout_authority)
        login = await worker.run(broker.callout_login)
        server_list = await worker.run(broker.server_list_login)
        async with (
            _connected(server_list, "wegweiser callout: servers") as system,
            _connected(login, "wegweiser callout") as connection,
        ):
            callout = Callout(
                runtime,
                connection,
                authority,
                worker,
                judge=gatekeeper.judge,
                record_rejections=gatekeeper.record_rejections,
                list_servers=lambda: accounts.server_ids(system.client),
            )
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_flush(runtime, worker, gatekeeper))
                tasks.create_task(callout.run())
        await worker.run(gatekeeper.flush, at_once=True)
    finally:
        await worker.close()


async def _flush(runtime: Runtime, worker: Worker, gatekeeper: Gatekeeper) -> None:
    """What has been counted is written although nobody is refused any more."""
    while not runtime.stopping.is_set():
        await runtime.pause(FLUSH_SECONDS)
        try:
            await worker.run(gatekeeper.flush)
        except DATABASE_AWAY as error:
            log.warning("refused logins wait to be written", error=str(error).strip())


def _connected(login: broker.Login, name: str) -> AbstractAsyncContextManager[Connection]:
    return connect(
        settings.NATS_URL,
        user_jwt=lambda: login.jwt,
        seed=login.seed,
        name=name,
        ca_file=settings.NATS_CA_FILE,
    )
