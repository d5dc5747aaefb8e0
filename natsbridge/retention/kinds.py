"""Register which rows of this package are old enough to be deleted."""

from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import QuerySet

from natsbridge.models import DeadLetter, SubscriberStatus
from natsbridge.retention.engine import retention

# A subscriber that was killed cannot delete its status; it is worth seeing for a while.
STATUS_KEPT = timedelta(days=1)


@retention.kind("dead letters")
def dead_letters(now: datetime) -> QuerySet[DeadLetter]:
    """Return those that are older than the dead-letter queue keeps them.

    Resolved ones stay as long as waiting ones: deleted earlier, the queue could mirror them again
    as new.
    """
    before = now - timedelta(days=settings.DEAD_LETTER_DAYS)
    return DeadLetter.objects.filter(dead_lettered_at__lt=before, replay_requested_at=None)


@retention.kind("subscriber statuses")
def subscriber_statuses(now: datetime) -> QuerySet[SubscriberStatus]:
    return SubscriberStatus.objects.filter(beat_at__lt=now - STATUS_KEPT)
