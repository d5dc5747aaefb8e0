"""The side task that writes what has been counted of logins, of refused ones and of those that
come and go by the thousand."""

import structlog

from devices.enrolment.refused_logins import book
from devices.presence.connection_limit import limited_devices
from devices.presence.events import connection_events
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
                for counted in (book, connection_events, limited_devices):
                    await worker.run(counted.flush, at_once=runtime.stopping.is_set())
            except DATABASE_AWAY as error:
                log.warning("counts of logins wait to be written", error=str(error).strip())
    finally:
        await worker.close()
