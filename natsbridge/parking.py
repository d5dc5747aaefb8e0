"""The only writer of parked messages: what cannot be used is kept, with the reason."""

from collections.abc import Sequence

from django.conf import settings
from django.db import transaction
from django.db.models import Max

from natsbridge.models import ParkedMessage
from natsbridge.registry import Rejection


def park(rejections: Sequence[Rejection]) -> None:
    """Keeps the messages; the oldest make room beyond PARKED_MESSAGES_MAX."""
    if not rejections:
        return
    with transaction.atomic():
        ParkedMessage.objects.bulk_create(map(_row, rejections), batch_size=200)
        newest = ParkedMessage.objects.aggregate(newest=Max("id"))["newest"]
        ParkedMessage.objects.filter(id__lte=newest - settings.PARKED_MESSAGES_MAX).delete()


def _row(rejection: Rejection) -> ParkedMessage:
    message, reason, detail = rejection
    return ParkedMessage(
        received_at=message.received_at,
        subject=_storable(message.subject)[:512],
        headers={_storable(name): _storable(value) for name, value in message.headers.items()},
        body=message.data,
        reason=reason[:40],
        detail=_storable(detail),
        deliveries=message.deliveries,
    )


def _storable(text: str) -> str:
    """Postgres text holds neither NUL nor half a surrogate pair."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
