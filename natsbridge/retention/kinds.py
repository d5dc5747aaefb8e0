"""How long this app's rows are kept."""

from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import QuerySet

from natsbridge.models import ParkedMessage, SubscriberStatus
from natsbridge.retention.engine import retention

# A subscriber that was killed says nothing; its last words are worth something for a while.
STATUS_KEPT = timedelta(days=1)


@retention.kind("parked messages")
def parked_messages(now: datetime) -> QuerySet[ParkedMessage]:
    """Settled ones stay as long as the others: were they gone before the dead-letter queue has
    forgotten them, it could bring them back as new."""
    before = now - timedelta(days=settings.PARKED_DAYS)
    return ParkedMessage.objects.filter(parked_at__lt=before, replay_requested_at=None)


@retention.kind("subscriber statuses")
def subscriber_statuses(now: datetime) -> QuerySet[SubscriberStatus]:
    return SubscriberStatus.objects.filter(beat_at__lt=now - STATUS_KEPT)
