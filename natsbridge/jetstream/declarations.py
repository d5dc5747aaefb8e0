"""Declare the streams and consumers that the platform uses, and how often a message is tried.

`natsbridge.jetstream.streams` brings a server's streams in line with these declarations. A stream
is declared in the change that brings its first producer and consumer.
"""

from dataclasses import dataclass, replace
from typing import cast
from uuid import UUID

from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DiscardPolicy,
    PersistMode,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)

from natsbridge.protocol.kinds import DURABLE_TYPES
from natsbridge.protocol.subjects import (
    BROKER_PATTERNS,
    DEAD_LETTER_PATTERN,
    INGEST_PATTERNS,
    LATEST_PATTERNS,
    tenant_stream_name,
)

INGEST = "INGEST"
INGEST_WRITER = "ingest-writer"
LATEST = "LATEST"
LATEST_WRITER = "latest-writer"
BROKER = "BROKER"
PRESENCE_WRITER = "presence-writer"
DLQ = "DLQ"
DEAD_LETTER_MIRROR = "dead-letter-mirror"

# The most messages of one subject, so of one kind of one device. INGEST refuses any more; a device
# may have this many responses to send while every subscriber is away.
INGEST_PER_SUBJECT = 10_500
# LATEST drops older ones, since only the newest counts.
LATEST_PER_SUBJECT = 10
# The most dead letters of one account and reason.
DLQ_PER_SUBJECT = 2_000
DLQ_MESSAGES = 100_000
# The most messages of one device and kind in a tenant's own stream: four hours of heartbeats. There
# are fewer where the tenant has so little storage that messages of the least size would not fit.
TENANT_PER_SUBJECT = 256
_TENANT_LEAST_SIZE = 4 * 1024

_MEGABYTE = 1024**2
_GIGABYTE = 1024**3
_DAY = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Tries:
    """How often a failing message is tried, and how long it waits before each further try.

    Failures are counted, not deliveries: a message whose subscriber was killed has not failed.
    Each subscriber counts by itself and anew after a restart; `most_deliveries` bounds them all.
    With None for `tries` a message never becomes a dead letter.
    """

    delays: tuple[float, ...]
    tries: int | None
    most_deliveries: int = 30

    def delay(self, failures: int) -> float:
        return self.delays[min(failures, len(self.delays)) - 1]

    def are_used_up(self, failures: int, deliveries: int) -> bool:
        if self.tries is None:
            return False
        return failures >= self.tries or deliveries >= self.most_deliveries


_TRIES = Tries(delays=(1, 5, 15, 60), tries=5)
TRIES = {
    INGEST_WRITER: _TRIES,
    LATEST_WRITER: _TRIES,
    PRESENCE_WRITER: _TRIES,
    # A dead letter has nowhere else to go.
    DEAD_LETTER_MIRROR: replace(_TRIES, tries=None),
}
# The seconds after which the server gives another subscriber what a killed one had taken. A batch
# takes milliseconds, and a subscriber that needs longer asks the server for more time.
ACK_WAIT = 10.0


@dataclass(frozen=True, slots=True)
class StreamDeclaration:
    """The configuration that a stream and its consumers must have.

    The server chooses the fields that are None. `sheds` names limits that may be tightened although
    the stream then drops its oldest messages.
    """

    config: StreamConfig
    consumers: tuple[ConsumerConfig, ...] = ()
    sheds: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return cast(str, self.config.name)


def platform_streams(
    *,
    ingest_max_bytes: int = 8 * _GIGABYTE,
    latest_max_bytes: int = _GIGABYTE,
    broker_max_bytes: int = 256 * _MEGABYTE,
    dlq_max_bytes: int = 8 * _GIGABYTE,
    max_message_bytes: int = 320 * 1024,
    num_replicas: int = 1,
) -> tuple[StreamDeclaration, ...]:
    """Return the streams of the platform's account; three replicas need a cluster of three servers.

    `max_message_bytes` is the size of a device's largest message: see `most_of_one_device`.
    """
    return (
        _ingest(ingest_max_bytes, max_message_bytes, num_replicas),
        _latest(latest_max_bytes, max_message_bytes, num_replicas),
        _broker(broker_max_bytes, num_replicas),
        _dead_letters(dlq_max_bytes, num_replicas),
    )


def most_of_one_device(declaration: StreamDeclaration) -> int:
    """Return how many bytes of the stream one device can fill.

    A stream has no limit of bytes for a subject, so this is the product of its other limits.
    """
    config = declaration.config
    kinds, each, size = config.subjects, config.max_msgs_per_subject, config.max_msg_size
    return len(kinds or ()) * (each or 0) * (size or 0)


def tenant_stream(tenant: UUID, *, max_bytes: int = 24 * _MEGABYTE) -> StreamDeclaration:
    """Return the replay window in a tenant's own account.

    It acknowledges nothing: a PubAck tells a device that the platform has its message, and only
    INGEST and LATEST may tell it that. Its `max_bytes` is below the account's disk limit, which the
    server reserves. It allows no direct get, whose answer is the bare message: sent with another
    device's command subject as its reply, that would be a forged command.

    A device that floods displaces its own messages: it can fill a sixth of the stream by number,
    and three quarters by bytes. A message too large for that (above 12 KiB of the usual 24 MiB) is
    not kept here, only in INGEST and LATEST.
    """
    each_kind = max_bytes * 3 // 4 // len(DURABLE_TYPES)
    per_subject = max(1, min(TENANT_PER_SUBJECT, each_kind // _TENANT_LEAST_SIZE))
    return StreamDeclaration(
        StreamConfig(
            name=tenant_stream_name(tenant),
            subjects=[f"tenant.{tenant}.device.>"],
            retention=RetentionPolicy.LIMITS,
            storage=StorageType.FILE,
            discard=DiscardPolicy.OLD,
            max_age=_DAY,
            max_msgs=10_000,
            max_msgs_per_subject=per_subject,
            max_msg_size=each_kind // per_subject,
            max_bytes=max_bytes,
            duplicate_window=0.1,
            num_replicas=1,
            no_ack=True,
            allow_direct=False,
            persist_mode=PersistMode.ASYNC,
        ),
        sheds=("max_msgs_per_subject",),
    )


def _ingest(max_bytes: int, max_message_bytes: int, num_replicas: int) -> StreamDeclaration:
    """Return the stream of messages that devices send once: it keeps them until they are stored.

    The messages of a device that floods are refused at its own limit, those of its neighbours are
    not. A stream deduplicates across tenants, hence the shortest window that the server allows.
    """
    return StreamDeclaration(
        StreamConfig(
            name=INGEST,
            subjects=list(INGEST_PATTERNS),
            retention=RetentionPolicy.WORK_QUEUE,
            storage=StorageType.FILE,
            discard=DiscardPolicy.NEW,
            discard_new_per_subject=True,
            max_msgs_per_subject=INGEST_PER_SUBJECT,
            max_msg_size=max_message_bytes,
            max_age=0,
            max_msgs=-1,
            max_bytes=max_bytes,
            duplicate_window=0.1,
            num_replicas=num_replicas,
            allow_direct=False,
        ),
        (_writer(INGEST_WRITER),),
    )


def _latest(max_bytes: int, max_message_bytes: int, num_replicas: int) -> StreamDeclaration:
    """Return the stream of messages that devices repeat, of which only the newest counts.

    So it does not grow while every subscriber is away, however long, and no device can fill it.
    `discard` concerns the whole stream: when it is full, known devices keep their messages and
    those of another device are refused.
    """
    return StreamDeclaration(
        StreamConfig(
            name=LATEST,
            subjects=list(LATEST_PATTERNS),
            retention=RetentionPolicy.WORK_QUEUE,
            storage=StorageType.FILE,
            discard=DiscardPolicy.NEW,
            discard_new_per_subject=False,
            max_msgs_per_subject=LATEST_PER_SUBJECT,
            max_msg_size=max_message_bytes,
            max_age=0,
            max_msgs=-1,
            max_bytes=max_bytes,
            duplicate_window=0.1,
            num_replicas=num_replicas,
            allow_direct=False,
        ),
        (_writer(LATEST_WRITER),),
    )


def _broker(max_bytes: int, num_replicas: int) -> StreamDeclaration:
    """Return the stream of connects and disconnects, as the system account reports them.

    It keeps an event until it is read, so that a subscriber that was away misses none, and no
    longer, since events of refused logins have usernames as they were typed. In a storm of logins
    it drops the oldest events; reconciling with the list of connections makes up for them.
    """
    return StreamDeclaration(
        StreamConfig(
            name=BROKER,
            subjects=list(BROKER_PATTERNS),
            retention=RetentionPolicy.WORK_QUEUE,
            storage=StorageType.FILE,
            discard=DiscardPolicy.OLD,
            max_age=7 * _DAY,
            max_msgs=-1,
            max_bytes=max_bytes,
            duplicate_window=0.1,
            num_replicas=num_replicas,
            allow_direct=False,
        ),
        (_writer(PRESENCE_WRITER),),
    )


def _dead_letters(max_bytes: int, num_replicas: int) -> StreamDeclaration:
    """Return the stream of dead letters, as `natsbridge.protocol.dead_letter` packs them.

    One account's flood of one reason displaces its own oldest and no others.
    """
    return StreamDeclaration(
        StreamConfig(
            name=DLQ,
            subjects=[DEAD_LETTER_PATTERN],
            retention=RetentionPolicy.LIMITS,
            storage=StorageType.FILE,
            discard=DiscardPolicy.OLD,
            max_age=30 * _DAY,
            max_msgs=DLQ_MESSAGES,
            max_msgs_per_subject=DLQ_PER_SUBJECT,
            max_bytes=max_bytes,
            # A subscriber that is killed after publishing one, before removing the original, leads
            # to a second publish; the broker stores it once.
            duplicate_window=3600.0,
            num_replicas=num_replicas,
            allow_direct=False,
        ),
        (_writer(DEAD_LETTER_MIRROR),),
    )


def _writer(name: str) -> ConsumerConfig:
    return ConsumerConfig(
        durable_name=name,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=ACK_WAIT,
        # In a work queue a message out of deliveries would stay for ever; the subscriber makes
        # it a dead letter and TERMs it: see TRIES.
        max_deliver=-1,
        # The surplus of a flooding device waits unacknowledged, and must not use up this limit.
        max_ack_pending=100_000,
    )
