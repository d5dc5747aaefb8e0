"""The side task that writes what has been counted of refused logins."""

import structlog

from devices.actions.refused_logins import book
from natsbridge.runtime import DATABASE_AWAY, Runtime, Worker

log = structlog.get_logger(__name__)

FLUSH_SECONDS = 15.0


async def write_refusals(runtime: Runtime) -> None:
    """Until stopping; what is left then is written at once."""
    worker = Worker("refused logins")
    runtime.gauges["refused_logins"] = lambda: book.total
    try:
        while not runtime.stopping.is_set():
            await runtime.pause(FLUSH_SECONDS)
            try:
                await worker.run(book.flush, at_once=runtime.stopping.is_set())
            except DATABASE_AWAY as error:
                log.warning("refused logins wait to be written", error=str(error).strip())
    finally:
        await worker.close()
