"""Batches: who is handed what, and what one bad message does to its neighbours."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from django.db import OperationalError

from natsbridge import claims
from natsbridge.dispatch import Dispatcher, Verdict
from natsbridge.envelope import Message, RawMessage
from natsbridge.models import ParkedMessage
from natsbridge.parking import park
from natsbridge.registry import Registry, Rejection

TENANT, DEVICE = uuid4(), uuid4()
ACCOUNT = claims.generate("account").public


def raw(kind: str = "status", data: bytes = b"{}", deliveries: int = 1) -> RawMessage:
    subject = f"ingest.{ACCOUNT}.tenant.{TENANT}.device.{DEVICE}.{kind}"
    return RawMessage(subject, data, {}, datetime.now(UTC), deliveries)


def dispatcher(handle: Callable[[Sequence[Message]], Sequence[Rejection]]) -> Dispatcher:
    registry = Registry()
    registry.handler("status")(handle)
    return Dispatcher(registry, max_deliveries=3)


def refusing(word: bytes) -> Callable[[Sequence[Message]], list[Rejection]]:
    """A handler that fails for any batch with a body that contains the word."""

    def handle(messages: Sequence[Message]) -> list[Rejection]:
        if any(word in message.raw.data for message in messages):
            raise RuntimeError("cannot take this one")
        return []

    return handle


pytestmark = pytest.mark.django_db


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
    assert not ParkedMessage.objects.exists()


def test_one_that_has_failed_often_enough_is_parked_with_the_traceback() -> None:
    verdicts, _ = dispatcher(refusing(b"bad")).dispatch([raw(data=b'{"bad": 1}', deliveries=3)])
    assert verdicts == [Verdict.PARKED]
    row = ParkedMessage.objects.get()
    assert (row.reason, row.deliveries) == ("failed", 3)
    assert "cannot take this one" in row.detail


def test_what_cannot_be_read_is_parked_at_once() -> None:
    batch = [raw(data=b"{"), raw(kind="unheard_of"), raw()]
    verdicts, rejections = dispatcher(refusing(b"-")).dispatch(batch)
    assert verdicts == [Verdict.PARKED, Verdict.PARKED, Verdict.DONE]
    assert [rejection.reason for rejection in rejections] == ["malformed_json", "bad_subject"]


def test_a_database_that_is_away_blames_no_message() -> None:
    def handle(messages: Sequence[Message]) -> list[Rejection]:
        raise OperationalError("the server is away")

    with pytest.raises(OperationalError):
        dispatcher(handle).dispatch([raw(deliveries=99), raw()])
    assert not ParkedMessage.objects.exists()


def test_the_table_of_parked_messages_is_bounded_and_keeps_the_newest(settings: object) -> None:
    settings.PARKED_MESSAGES_MAX = 10  # type: ignore[attr-defined]
    for number in range(5):
        park([Rejection(raw(), "test", f"{number}.{each}") for each in range(5)])
    details = list(ParkedMessage.objects.values_list("detail", flat=True))
    assert details == [f"{number}.{each}" for number in (4, 3) for each in (4, 3, 2, 1, 0)]


def test_the_parked_messages_are_bounded_in_bytes_too(settings: object) -> None:
    settings.PARKED_BYTES_MAX = 2_500  # type: ignore[attr-defined]
    park([Rejection(raw(data=b"x" * 1_000), "test", str(number)) for number in range(5)])
    assert list(ParkedMessage.objects.values_list("detail", flat=True)) == ["4", "3"]
    park([Rejection(raw(data=b"x" * 5_000), "test", "large")])
    assert ParkedMessage.objects.get().detail == "large"


def test_what_postgres_cannot_hold_is_parked_all_the_same() -> None:
    hostile = RawMessage("a\0b" * 400, b"\0\xff", {"h\0": "\ud800"}, datetime.now(UTC))
    park([Rejection(hostile, "word" * 30, "why\0")])
    assert bytes(ParkedMessage.objects.get().body) == b"\0\xff"


def test_two_handlers_of_one_kind_are_a_mistake_found_at_once() -> None:
    registry = Registry()
    registry.handler("status")(refusing(b"a"))
    with pytest.raises(ValueError, match="status"):
        registry.handler("status")(refusing(b"b"))
