"""Write and read the status of subscribers; the web, without NATS, learns from it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import QuerySet
from django.utils import timezone

from natsbridge.models import Coverage, SubscriberStatus
from natsbridge.subscriber import pause

BEAT_SECONDS = 5
# Three missed beats.
SILENT_AFTER = timedelta(seconds=3 * BEAT_SECONDS)


@dataclass(frozen=True)
class ServiceState:
    """How many subscribers run, whether at least one is connected to the broker, and whether the
    service is paused, or soon will be."""

    running: int
    connected: bool
    paused: bool


def running_subscribers() -> QuerySet[SubscriberStatus]:
    """Return the subscribers whose last sign of life is recent."""
    return SubscriberStatus.objects.filter(beat_at__gt=timezone.now() - SILENT_AFTER)


def service_state() -> ServiceState:
    states = list(running_subscribers().values_list("connected", flat=True))
    return ServiceState(len(states), any(states), pause.current() is not None)


def stream_usage() -> dict[str, dict[str, Any]]:
    """Return how full each of the platform's streams is, from the latest status that says so."""
    statuses = running_subscribers().filter(details__has_key="streams")
    details = statuses.order_by("-beat_at").values_list("details", flat=True).first()
    return dict(details["streams"]) if details else {}


def open_breakers() -> list[str]:
    """Return the servers that some running subscriber finds away."""
    found = running_subscribers().values_list("details__breakers", flat=True)
    return sorted(
        {
            name
            for breakers in found
            for name, breaker in (breakers or {}).items()
            if breaker["state"] == "open"
        }
    )


@transaction.atomic
def beat(
    instance: str,
    *,
    started_at: datetime,
    connected: bool,
    paused: bool = False,
    details: dict[str, Any],
) -> None:
    """Write the status of one subscriber, and the coverage if it listens to the devices."""
    now = timezone.now()
    SubscriberStatus.objects.update_or_create(
        instance=instance,
        defaults={
            "started_at": started_at,
            "beat_at": now,
            "connected": connected,
            "paused": paused,
            "details": details,
        },
    )
    if connected and not paused:
        _cover(now)


def sign_off(instance: str) -> None:
    SubscriberStatus.objects.filter(instance=instance).delete()


def _cover(now: datetime) -> None:
    """Extend the coverage or record a gap, in one statement for concurrent subscribers."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            INSERT INTO {Coverage._meta.db_table} AS coverage (id, last_beat)
            VALUES (1, %(now)s)
            ON CONFLICT (id) DO UPDATE SET
                gap_started = CASE WHEN coverage.last_beat < %(silent)s
                    THEN coverage.last_beat ELSE coverage.gap_started END,
                gap_ended = CASE WHEN coverage.last_beat < %(silent)s
                    THEN %(now)s ELSE coverage.gap_ended END,
                last_beat = GREATEST(coverage.last_beat, %(now)s)
            """,  # noqa: S608 (the table's own name)
            {"now": now, "silent": now - SILENT_AFTER},
        )
