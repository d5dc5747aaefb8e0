"""When subscribers were listening, and what that means for the status of devices."""

from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Exists
from django.utils import timezone

from devices.presence.rules import BLIND_AFTER, Coverage, Cutoffs, cutoffs
from natsbridge import models
from natsbridge.subscriber import pause

# While the service is paused nobody listens to the devices.
_PAUSED = Exists(models.Pause.objects.all())


def blind_times(now: datetime) -> list[tuple[datetime, datetime]]:
    """Return when no subscriber listened: the latest gap that is over, and one that lasts."""
    row = models.Coverage.objects.first()
    if row is None:
        return []
    times = [(row.gap_started, row.gap_ended)] if row.gap_started and row.gap_ended else []
    return times + ([(row.last_beat, now)] if now - row.last_beat > BLIND_AFTER else [])


def current_pause(cutoffs: Cutoffs) -> models.Pause | None:
    """Return the pause that makes all devices Unknown, if that is why they are."""
    return pause.current() if cutoffs.blind else None


def silence_counts_since(at: datetime) -> bool:
    """Return whether a device that was silent since then was heard by nobody: subscribers have
    listened all the time. Without a subscriber yet there was nothing to miss."""
    row = models.Coverage.objects.annotate(paused=_PAUSED).first()
    if row is None:
        return True
    return not (
        row.paused
        or timezone.now() - row.last_beat > BLIND_AFTER
        or (row.gap_ended is not None and row.gap_ended > at)
    )


def current_cutoffs() -> Cutoffs:
    """Return the cutoffs at this moment, from the stored coverage and the settings."""
    row = models.Coverage.objects.annotate(paused=_PAUSED).first()
    coverage = Coverage()
    if row and not row.paused:
        coverage = Coverage(row.last_beat, row.gap_started, row.gap_ended)
    return cutoffs(
        coverage,
        timezone.now(),
        online=timedelta(seconds=settings.ONLINE_SECONDS),
        stale=timedelta(seconds=settings.STALE_SECONDS),
    )
