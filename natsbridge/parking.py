"""The only writer of parked messages: what cannot be used is kept, with the reason."""

from collections.abc import Sequence

from django.conf import settings
from django.db import connection, transaction

from natsbridge.models import ParkedMessage
from natsbridge.registry import Rejection


def park(rejections: Sequence[Rejection]) -> None:
    """Keeps the messages; the oldest make room beyond PARKED_MESSAGES_MAX and PARKED_BYTES_MAX."""
    if not rejections:
        return
    with transaction.atomic():
        ParkedMessage.objects.bulk_create(map(_row, rejections), batch_size=200)
        with connection.cursor() as cursor:
            cursor.execute(_MAKE_ROOM, [settings.PARKED_BYTES_MAX, settings.PARKED_MESSAGES_MAX])


# The newest is kept, whatever its size.
_MAKE_ROOM = f"""
    DELETE FROM {ParkedMessage._meta.db_table} WHERE id <= (
        SELECT max(id) FROM (
            SELECT id, row_number() OVER newest_first AS number,
                sum(octet_length(body)) OVER newest_first AS bytes
            FROM {ParkedMessage._meta.db_table}
            WINDOW newest_first AS (ORDER BY id DESC)
        ) AS held
        WHERE number > 1 AND (bytes > %s OR number > %s)
    )
"""  # noqa: S608 (the table's own name)


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
