"""The side task that tells agents to fetch new credentials, while theirs are being rotated."""

import structlog

from devices.enrolment import credentials
from natsbridge.runtime import DATABASE_AWAY, Runtime, Worker
from tenants.credentials.renewals import RENEWALS_CHANNEL

log = structlog.get_logger(__name__)

# Between some agents and the next ones; and when nothing wakes it, in case a wake-up was lost.
PACE_SECONDS = 1.0
POLL_SECONDS = 15.0


async def tell_to_renew(runtime: Runtime) -> None:
    """Until stopping."""
    wake = runtime.wakeups.on(RENEWALS_CHANNEL)
    worker = Worker("renewals")
    try:
        while not runtime.stopping.is_set():
            told = 0
            try:
                told = await worker.run(credentials.tell_some_to_renew)
            except DATABASE_AWAY as error:
                log.warning("renewals wait for the database", error=str(error).strip())
            if told:
                runtime.counters["renewals.told"] += told
                await runtime.pause(PACE_SECONDS)
            else:
                await runtime.pause(POLL_SECONDS, wake=wake)
    finally:
        await worker.close()
