"""Pause and resume the service: what staff want, and how each subscriber follows it.

While it is paused the devices' reports wait in their streams and commands stay queued. The status,
presence, the auth callout and everything else goes on.
"""

from django.db import transaction

from natsbridge.models import Pause
from natsbridge.postgres.wakeups import notify
from natsbridge.runtime import Runtime, Worker, repeat

PAUSE_CHANNEL = "wegweiser_pause"
# In case a notification was lost.
POLL_SECONDS = 5.0


def current() -> Pause | None:
    """Return who has paused the service, since when and why; None if it is not paused."""
    return Pause.objects.first()


@transaction.atomic
def pause(*, by: str, reason: str) -> bool:
    """Pause the service, and return whether that is new: a second pause changes nothing."""
    _, is_new = Pause.objects.get_or_create(id=1, defaults={"by": by[:200], "reason": reason})
    notify(PAUSE_CHANNEL)
    return is_new


@transaction.atomic
def resume() -> bool:
    """Resume the service, and return whether it was paused."""
    removed, _ = Pause.objects.all().delete()
    notify(PAUSE_CHANNEL)
    return removed > 0


async def follow(runtime: Runtime) -> None:
    """Keep this subscriber in service, unless the service is paused, until it stops."""
    worker = Worker("pause")

    async def look() -> None:
        if await worker.run(current):
            runtime.in_service.clear()
        else:
            runtime.in_service.set()

    try:
        await repeat("pause", runtime, look, every=POLL_SECONDS, wakes_on=PAUSE_CHANNEL)
    finally:
        await worker.close()
