"""Take in live metrics: decode them, check them, and write them to the ring buffers and the open
pages."""

import time
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from devices.live import frames
from devices.presence.heard import heard
from devices.telemetry import ring_buffers
from devices.telemetry.ring_buffers import Point
from devices.telemetry.tenancy import CACHED_DEVICES, AccountCache
from natsbridge.errors import InvalidSubject, MalformedMessage
from natsbridge.protocol import envelope, subjects
from natsbridge.protocol.envelope import RawMessage
from natsbridge.protocol.subjects import MetricSubject
from natsbridge.registry import Rejection

# How many metrics one device may have: each is a list in Redis.
MAX_METRICS = 64


class MetricLimit:
    """Holds each device to MAX_METRICS different metrics in `lifetime` seconds."""

    def __init__(self, lifetime: float = 30.0) -> None:
        self._lifetime = lifetime
        self._names: dict[UUID, set[str]] = {}
        self._fresh_until = 0.0

    def admits(self, device: UUID, metric_type: str) -> bool:
        names = self._names.setdefault(device, set())
        if metric_type not in names and len(names) >= MAX_METRICS:
            return False
        names.add(metric_type)
        return True

    def forget_old(self) -> None:
        """Call this between batches."""
        if time.monotonic() > self._fresh_until or len(self._names) > CACHED_DEVICES:
            self._names.clear()
            self._fresh_until = time.monotonic() + self._lifetime


_tenancy = AccountCache()
_limit = MetricLimit()


class _Reading(NamedTuple):
    subject: MetricSubject
    point: Point
    message: RawMessage


def record_metrics(messages: Sequence[RawMessage]) -> list[Rejection]:
    """Record live metrics. Raise DependencyAway while Redis is away; then nothing is recorded."""
    readings, rejected = _read(messages)
    accounts = _tenancy.accounts_of(reading.subject.device for reading in readings)
    _limit.forget_old()
    series: dict[tuple[UUID, str], list[Point]] = {}
    heard_at: dict[UUID, datetime] = {}
    for (account, device, metric), point, message in readings:
        if device not in accounts:
            # Nobody could look it up: at most once is what live metrics promise.
            continue
        if accounts[device] != account:
            detail = f"The account's tenant has no device {device}."
            rejected.append(Rejection(message, "unknown_device", detail))
        elif not _limit.admits(device, metric):
            detail = f"A device may have {MAX_METRICS} metrics."
            rejected.append(Rejection(message, "too_many_metrics", detail))
        else:
            series.setdefault((device, metric), []).append(point)
            heard_at[device] = message.received_at
    if series:
        ring_buffers.append(series)
        frames.push_metrics(series)
        heard.note(heard_at)
    return rejected


def _read(messages: Sequence[RawMessage]) -> tuple[list[_Reading], list[Rejection]]:
    readings: list[_Reading] = []
    rejected: list[Rejection] = []
    # A batch has many messages for each subject.
    parsed: dict[str, MetricSubject] = {}
    for message in messages:
        try:
            subject = parsed.get(message.subject) or subjects.parse_metric(message.subject)
            value, timestamp = envelope.decode_metric(message.data, device=subject.device)
        except InvalidSubject as error:
            rejected.append(Rejection(message, "bad_subject", str(error)))
        except MalformedMessage as error:
            rejected.append(Rejection(message, error.reason, str(error)))
        else:
            parsed[message.subject] = subject
            moment = timestamp or round(message.received_at.timestamp() * 1000)
            readings.append(_Reading(subject, Point(moment, value), message))
    return readings, rejected
