"""Batches: who is handed what, and what one bad message does to its neighbours."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from django.db import OperationalError

from natsbridge.identity import nkeys
from natsbridge.jetstream.declarations import Tries
from natsbridge.protocol.envelope import Message, RawMessage
from natsbridge.registry import Registry, Rejection
from natsbridge.subscriber.dispatch import Dispatcher, Verdict, device_messages

TENANT, DEVICE = uuid4(), uuid4()
ACCOUNT = nkeys.generate("account").public


def raw(
    kind: str = "status", data: bytes = b"{}", deliveries: int = 1, sequence: int = 1
) -> RawMessage:
    subject = f"ingest.{ACCOUNT}.tenant.{TENANT}.device.{DEVICE}.{kind}"
    return RawMessage(subject, data, {}, datetime.now(UTC), deliveries, sequence)


def dispatcher(handle: Callable[[Sequence[Message]], Sequence[Rejection]]) -> Dispatcher:
    registry = Registry()
    registry.handler("status")(handle)
    tries = Tries(delays=(1, 5), tries=3, most_deliveries=30)
    return Dispatcher(device_messages(registry), tries=tries)


def refusing(word: bytes) -> Callable[[Sequence[Message]], list[Rejection]]:
    """A handler that fails for any batch with a body that contains the word."""

    def handle(messages: Sequence[Message]) -> list[Rejection]:
        if any(word in message.raw.data for message in messages):
            raise RuntimeError("cannot take this one")
        return []

    return handle


def test_a_good_batch_is_one_call() -> None:
    sizes: list[int] = []

    def handle(messages: Sequence[Message]) -> list[Rejection]:
        sizes.append(len(messages))
        return []

    verdicts, _ = dispatcher(handle).dispatch([raw(), raw(), raw()])
    assert (sizes, verdicts) == ([3], [Verdict.DONE] * 3)


def test_one_that_fails_is_tried_again_and_its_neighbours_are_done() -> None:
    batch = [raw(), raw(data=b'{"bad": 1}'), raw()]
    verdicts, _ = dispatcher(refusing(b"bad")).dispatch(batch)
    assert verdicts == [Verdict.DONE, Verdict.RETRY, Verdict.DONE]


def test_one_that_has_failed_often_enough_is_rejected_with_the_traceback() -> None:
    trying, bad = dispatcher(refusing(b"bad")), raw(data=b'{"bad": 1}')
    delays = []
    for _ in range(2):
        assert trying.dispatch([bad])[0] == [Verdict.RETRY]
        delays.append(trying.delay(bad))
    verdicts, rejections = trying.dispatch([bad])
    assert (verdicts, delays) == ([Verdict.REJECTED], [1, 5])
    assert rejections[0].reason == "failed"
    assert "cannot take this one" in rejections[0].detail
    assert trying.attempts(bad) == 3


def test_deliveries_to_subscribers_that_were_killed_are_no_failures() -> None:
    trying = dispatcher(refusing(b"bad"))
    assert trying.dispatch([raw(deliveries=29)])[0] == [Verdict.DONE]
    assert trying.dispatch([raw(data=b'{"bad": 1}', deliveries=29)])[0] == [Verdict.RETRY]


def test_failures_that_no_subscriber_remembers_end_all_the_same() -> None:
    bad = raw(data=b'{"bad": 1}', deliveries=30)
    assert dispatcher(refusing(b"bad")).dispatch([bad])[0] == [Verdict.REJECTED]


def test_what_cannot_be_read_is_rejected_at_once() -> None:
    batch = [raw(data=b"{"), raw(kind="unheard_of"), raw()]
    verdicts, rejections = dispatcher(refusing(b"-")).dispatch(batch)
    assert verdicts == [Verdict.REJECTED, Verdict.REJECTED, Verdict.DONE]
    assert [rejection.reason for rejection in rejections] == ["malformed_json", "bad_subject"]


def test_a_database_that_is_away_blames_no_message() -> None:
    def handle(messages: Sequence[Message]) -> list[Rejection]:
        raise OperationalError("the server is away")

    with pytest.raises(OperationalError):
        dispatcher(handle).dispatch([raw(deliveries=99), raw()])


def test_two_handlers_of_one_kind_are_a_mistake_found_at_once() -> None:
    registry = Registry()
    registry.handler("status")(refusing(b"a"))
    with pytest.raises(ValueError, match="status"):
        registry.handler("status")(refusing(b"b"))
