"""Answer the broker's requests about logins by password."""

import asyncio
from functools import partial

from natsbridge.client import system_account
from natsbridge.client.login import connect_as, open_unless
from natsbridge.runtime import Part
from natsbridge.subscriber.callout import Callout
from tenants.broker.logins import callout_authority, callout_login, server_list_login
from tenants.callout.judge import Gatekeeper

FLUSH_SECONDS = 15.0


async def answer_logins(part: Part) -> None:
    """Answer logins until stopping, over two connections of its own.

    One is in the callout's account, and one in the system account, to ask which servers there are.
    """
    runtime, worker = part.runtime, part.worker
    gatekeeper = Gatekeeper()
    authority = await worker.run(callout_authority)
    login = await worker.run(callout_login)
    server_list = await worker.run(server_list_login)
    opening_list = connect_as(server_list, "wegweiser callout: servers")
    opening = connect_as(login, "wegweiser callout")
    async with (
        open_unless(runtime.stopping, opening_list) as system,
        open_unless(runtime.stopping, opening) as connection,
    ):
        if system is None or connection is None:
            return
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
            # Counts are written even when no further login is refused.
            flush = part.repeat(partial(worker.run, gatekeeper.flush), every=FLUSH_SECONDS)
            tasks.create_task(flush)
            tasks.create_task(callout.run())
    await worker.run(gatekeeper.flush, at_once=True)
