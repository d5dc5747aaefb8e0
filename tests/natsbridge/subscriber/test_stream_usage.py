from nats.js.api import StreamConfig, StreamInfo, StreamState

from natsbridge.jetstream import declarations
from natsbridge.jetstream.declarations import most_of_one_device, platform_streams
from natsbridge.subscriber.stream_usage import stream_usage

ACCOUNT = "A" * 56
TENANT = "5d6d6d3e-55cb-4b2d-8a58-35f4a7c44d7c"
DEVICE = "6e4f1f4c-0a93-4b0e-8c36-0a1c4a5c7a11"


def info(counts: dict[str, int], *, stored: int = 0, limit: int = 10) -> StreamInfo:
    config = StreamConfig(name="X", max_bytes=1000, max_msgs=-1, max_msgs_per_subject=limit)
    state = StreamState(
        messages=sum(counts.values()),
        bytes=stored,
        first_seq=1,
        last_seq=1,
        consumer_count=1,
        subjects=counts,
    )
    return StreamInfo(config=config, state=state)


def test_the_fill_is_that_of_the_limit_that_is_nearest() -> None:
    assert stream_usage(info({}, stored=825))["percent"] == 82.5


def test_who_is_near_its_own_limit_is_named() -> None:
    subject = f"ingest.{ACCOUNT}.tenant.{TENANT}.device.{DEVICE}"
    near = stream_usage(info({f"{subject}.response": 8, f"{subject}.monitoring": 7}))["near_limit"]
    assert near == [
        {"tenant": TENANT, "device": DEVICE, "kind": "response", "messages": 8, "limit": 10}
    ]


def test_no_device_can_fill_what_all_share() -> None:
    for declaration in platform_streams():
        if declaration.name in (declarations.INGEST, declarations.LATEST):
            assert most_of_one_device(declaration) < 0.85 * (declaration.config.max_bytes or 0)
