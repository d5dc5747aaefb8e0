"""Declare the platform's streams with the sizes that the settings give them."""

from django.conf import settings

from natsbridge.jetstream.declarations import StreamDeclaration, platform_streams


def all_streams() -> tuple[StreamDeclaration, ...]:
    return platform_streams(
        ingest_max_bytes=settings.INGEST_MAX_BYTES,
        latest_max_bytes=settings.LATEST_MAX_BYTES,
        broker_max_bytes=settings.BROKER_MAX_BYTES,
        dlq_max_bytes=settings.DLQ_MAX_BYTES,
        max_message_bytes=settings.DEVICE_MESSAGE_BYTES,
        num_replicas=settings.NATS_REPLICAS,
    )


def stream(name: str) -> StreamDeclaration:
    return next(each for each in all_streams() if each.name == name)
