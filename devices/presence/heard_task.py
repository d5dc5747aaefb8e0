"""The side task that writes down who was heard by its live metrics."""

from devices.presence.heard import heard
from natsbridge.runtime import Runtime, Worker

WRITE_SECONDS = 2.0


async def write_heard(runtime: Runtime) -> None:
    """Until stopping. It runs in the process that takes in live metrics."""
    worker = Worker("heard")
    try:
        while not runtime.stopping.is_set():
            await worker.run(heard.write)
            await runtime.pause(WRITE_SECONDS)
    finally:
        await worker.close()
