"""Live metrics: from raw messages to the ring buffers and the open pages."""

import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

from devices.live import frames
from devices.presence.heard import heard
from devices.telemetry import ring_buffers
from devices.telemetry.ring_buffers import Point
from devices.telemetry.tenancy import accounts_of
from natsbridge.errors import InvalidSubject, MalformedMessage
from natsbridge.protocol import envelope, subjects
from natsbridge.protocol.envelope import RawMessage
from natsbridge.protocol.subjects import MetricSubject
from natsbridge.registry import Rejection
from natsbridge.subscriber.breaker import DATABASE

# Beyond this many devices the cache starts afresh, so that made-up ones cannot fill the memory.
_CACHED_DEVICES = 200_000


# How many metrics one device may have: each is a list in Redis.
MAX_METRICS = 64


class Owners:
    """Which account each device belongs to, and which metrics it has sent; looked up, and
    counted, afresh every `lifetime` seconds: live metrics are too many for a query a batch. Not
    even an unknown device costs more. While the database is away what was known holds, so live
    metrics go on."""

    def __init__(self, lifetime: float = 30.0) -> None:
        self._lifetime = lifetime
        self._accounts: dict[UUID, str | None] = {}
        self._metrics: dict[UUID, set[str]] = {}
        self._fresh_until = 0.0

    def of(self, devices: Iterable[UUID]) -> dict[UUID, str | None]:
        away = DATABASE.is_open
        stale = time.monotonic() > self._fresh_until and not away
        if stale or len(self._accounts) > _CACHED_DEVICES:
            self._accounts.clear()
            self._metrics.clear()
            self._fresh_until = time.monotonic() + self._lifetime
        missing = set(devices) - self._accounts.keys()
        if missing and not away:
            found = accounts_of(missing)
            for device in missing:
                self._accounts[device] = found[device][0] if device in found else None
        return self._accounts

    def admits(self, device: UUID, metric_type: str) -> bool:
        known = self._metrics.setdefault(device, set())
        if metric_type not in known and len(known) >= MAX_METRICS:
            return False
        known.add(metric_type)
        return True


_owners = Owners()


def record(messages: Sequence[RawMessage]) -> list[Rejection]:
    """Raises DependencyAway when Redis is away; then nothing is recorded."""
    rejected: list[Rejection] = []
    points: list[tuple[MetricSubject, Point, RawMessage]] = []
    for message in messages:
        try:
            subject = subjects.parse_metric(message.subject)
            value, timestamp = envelope.decode_metric(message.data, device=subject.device)
        except InvalidSubject as error:
            rejected.append(Rejection(message, "bad_subject", str(error)))
        except MalformedMessage as error:
            rejected.append(Rejection(message, error.reason, str(error)))
        else:
            moment = timestamp or round(message.received_at.timestamp() * 1000)
            points.append((subject, Point(moment, value), message))
    owners = _owners.of(subject.device for subject, _, _ in points)
    # Those that nobody could look up: at most once is what live metrics promise.
    points = [each for each in points if each[0].device in owners]
    series: dict[tuple[UUID, str], list[Point]] = {}
    signs: dict[UUID, datetime] = {}
    for subject, point, message in points:
        if owners[subject.device] != subject.account:
            detail = f"The account's tenant has no device {subject.device}."
            rejected.append(Rejection(message, "unknown_device", detail))
        elif not _owners.admits(subject.device, subject.metric_type):
            detail = f"A device may have {MAX_METRICS} metrics."
            rejected.append(Rejection(message, "too_many_metrics", detail))
        else:
            series.setdefault((subject.device, subject.metric_type), []).append(point)
            signs[subject.device] = message.received_at
    if series:
        ring_buffers.append(series)
        frames.push_metrics(series)
        heard.note(signs)
    return rejected
