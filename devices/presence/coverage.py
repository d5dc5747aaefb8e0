"""Who was listening, read once for each request, and what it means for a device's status."""

from datetime import datetime, timedelta

from django.conf import settings
from django.utils import timezone

from devices.presence.rules import BLIND_AFTER, Cutoffs, Watch, cutoffs
from natsbridge.models import Coverage


def blind_times(now: datetime) -> list[tuple[datetime, datetime]]:
    """When nobody listened, as far as is remembered: the latest time, and one that goes on."""
    row = Coverage.objects.first()
    if row is None:
        return []
    times = [(row.gap_started, row.gap_ended)] if row.gap_started and row.gap_ended else []
    return times + ([(row.last_beat, now)] if now - row.last_beat > BLIND_AFTER else [])


def current_cutoffs() -> Cutoffs:
    row = Coverage.objects.first()
    watch = Watch(row.last_beat, row.gap_started, row.gap_ended) if row else Watch()
    return cutoffs(
        watch,
        timezone.now(),
        online=timedelta(seconds=settings.ONLINE_SECONDS),
        stale=timedelta(seconds=settings.STALE_SECONDS),
    )
