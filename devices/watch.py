"""Who was listening, read once for each request, and what it means for a device's status."""

from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from devices.presence import Cutoffs, Watch, cutoffs
from natsbridge.models import Coverage


def current_cutoffs() -> Cutoffs:
    row = Coverage.objects.first()
    watch = Watch(row.last_beat, row.gap_started, row.gap_ended) if row else Watch()
    return cutoffs(
        watch,
        timezone.now(),
        online=timedelta(seconds=settings.ONLINE_SECONDS),
        stale=timedelta(seconds=settings.STALE_SECONDS),
    )
