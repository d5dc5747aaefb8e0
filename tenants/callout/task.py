"""The side task that lets in those who bring a password to the broker."""

import asyncio

import structlog

from natsbridge.client import system_account
from natsbridge.runtime import DATABASE_AWAY, Runtime, Worker
from natsbridge.subscriber.callout import Callout
from tenants.broker import logins, provisioning
from tenants.callout.judge import Gatekeeper

log = structlog.get_logger(__name__)

FLUSH_SECONDS = 15.0


async def answer_logins(runtime: Runtime) -> None:
    """Until stopping, over connections of its own: one in the callout's account, and one in the
    system account that asks which servers there are."""
    worker = Worker("auth")
    gatekeeper = Gatekeeper()
    try:
        authority = await worker.run(logins.callout_authority)
        login = await worker.run(logins.callout_login)
        server_list = await worker.run(logins.server_list_login)
        async with (
            provisioning.connected(server_list, "wegweiser callout: servers") as system,
            provisioning.connected(login, "wegweiser callout") as connection,
        ):
            callout = Callout(
                runtime,
                connection,
                authority,
                worker,
                judge=gatekeeper.judge,
                record_rejections=gatekeeper.record_rejections,
                list_servers=lambda: system_account.server_ids(system.client),
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
