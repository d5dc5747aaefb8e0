"""The table of dead letters: a mirror of the queue, fair to all accounts, replayed once."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from django.db import IntegrityError, OperationalError
from pytest_django.fixtures import Settings

from natsbridge.dead_letters import store
from natsbridge.errors import DependencyAway, MalformedMessage
from natsbridge.models import Coverage, DeadLetter
from natsbridge.protocol import dead_letter
from natsbridge.protocol.envelope import RawMessage
from natsbridge.registry import Rejection

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
TENANT, DEVICE = uuid4(), uuid4()
FLOOD, CALM = "A" * 56, "A" + "B" * 55
State = DeadLetter.State


def letter(
    sequence: int, *, account: str = FLOOD, body: bytes = b"{}", reason: str = "failed"
) -> RawMessage:
    """As the dead-letter queue brings it."""
    subject = f"ingest.{account}.tenant.{TENANT}.device.{DEVICE}.response"
    data = dead_letter.pack(
        RawMessage(subject, body, {"h": "v"}, NOW - timedelta(hours=1)),
        source="ingest",
        reason=reason,
        detail=f"number {sequence}",
        attempts=5,
        room=10**6,
    )
    return RawMessage(f"dlq.{account}.{reason}", data, {}, NOW, 1, sequence)


def details(account: str) -> list[str]:
    rows = DeadLetter.objects.filter(account=account).order_by("id")
    return list(rows.values_list("detail", flat=True))


def ask(**filters: object) -> int:
    return store.request_replay(DeadLetter.objects.filter(**filters), by="alice")


def test_a_dead_letter_becomes_one_row_however_often_it_comes() -> None:
    for _ in range(2):
        store.mirror([letter(7), letter(8, account=CALM)])
    row = DeadLetter.objects.get(account=FLOOD)
    assert (row.tenant, row.device, row.kind) == (TENANT, DEVICE, "response")
    assert (row.sequence, row.dead_lettered_at, row.attempts) == (7, NOW, 5)
    assert (row.received_at, row.headers) == (NOW - timedelta(hours=1), {"h": "v"})
    assert DeadLetter.objects.count() == 2


def test_a_message_that_is_not_a_dead_letter_is_kept_as_it_is() -> None:
    store.mirror([RawMessage(f"dlq.{FLOOD}.x", b"\xff", {}, NOW, 1, 3)])
    row = DeadLetter.objects.get()
    assert (row.reason, bytes(row.body), row.account) == ("unreadable", b"\xff", FLOOD)


def test_an_account_that_floods_displaces_its_own(settings: Settings) -> None:
    settings.DEAD_LETTER_MESSAGES_MAX = 10
    store.mirror([letter(number, account=CALM) for number in range(1, 4)])
    store.mirror([letter(number) for number in range(10, 50)])
    assert details(CALM) == ["number 1", "number 2", "number 3"]
    assert details(FLOOD) == [f"number {number}" for number in range(43, 50)]


def test_in_bytes_too_and_the_newest_is_kept_whatever_its_size(settings: Settings) -> None:
    settings.DEAD_LETTER_BYTES_MAX = 2_500
    store.mirror([letter(1, account=CALM, body=b"x" * 500)])
    store.mirror([letter(number, body=b"x" * 900) for number in range(10, 15)])
    assert details(CALM) == ["number 1"]
    assert details(FLOOD) == ["number 13", "number 14"]
    store.mirror([letter(20, body=b"x" * 5_000)])
    assert details(FLOOD) == ["number 20"]


def test_a_replay_hands_over_what_came_and_when() -> None:
    store.mirror([letter(1, body=b"{1}")])
    heard: list[RawMessage] = []

    def replay(row: DeadLetter, raw: RawMessage) -> None:
        heard.append(raw)

    assert ask() == 1
    assert store.replay_some(replay) == 1
    row = DeadLetter.objects.get()
    assert heard == [RawMessage(row.subject, b"{1}", {"h": "v"}, NOW - timedelta(hours=1))]
    assert (row.state, row.resolved_by) == (State.REPLAYED, "alice")


def test_a_message_is_replayed_once_however_often_it_is_asked_for() -> None:
    store.mirror([letter(1)])
    calls: list[int] = []

    def replay(row: DeadLetter, raw: RawMessage) -> None:
        calls.append(row.pk)

    assert [ask(), ask()] == [1, 0]
    assert [store.replay_some(replay), store.replay_some(replay), ask()] == [1, 0, 0]
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("problem", "reason"),
    [
        (MalformedMessage("no", reason="wrong_type"), "wrong_type"),
        (ZeroDivisionError("no"), "failed"),
        (IntegrityError("no"), "failed"),
    ],
)
def test_a_replay_that_fails_keeps_it_waiting_with_the_new_reason(
    problem: Exception, reason: str
) -> None:
    store.mirror([letter(1, reason="other")])

    def replay(row: DeadLetter, raw: RawMessage) -> None:
        Coverage.objects.create(last_beat=NOW)
        raise problem

    ask()
    assert store.replay_some(replay) == 1
    row = DeadLetter.objects.get()
    assert (row.state, row.reason, row.attempts) == (State.WAITING, reason, 6)
    assert "no" in row.detail
    assert row.replay_requested_at is None
    assert not Coverage.objects.exists(), "what the handler had written is undone"


def test_what_the_handler_refuses_keeps_waiting() -> None:
    store.mirror([letter(1)])
    ask()
    store.replay_some(lambda row, raw: Rejection(raw, "unknown_device", "There is none."))
    assert DeadLetter.objects.get().reason == "unknown_device"


@pytest.mark.parametrize("away", [OperationalError("gone"), DependencyAway("Redis: gone")])
def test_a_server_that_is_away_costs_no_attempt(away: Exception) -> None:
    store.mirror([letter(1)])

    def replay(row: DeadLetter, raw: RawMessage) -> None:
        raise away

    ask()
    with pytest.raises(type(away)):
        store.replay_some(replay)
    row = DeadLetter.objects.get()
    assert (row.attempts, row.state) == (5, State.WAITING)
    assert row.replay_requested_at is not None


def test_what_was_discarded_is_neither_counted_nor_replayed() -> None:
    store.mirror([letter(1), letter(2), letter(3, reason="wrong_type")])
    rows = DeadLetter.objects.filter(detail="number 1")
    assert [store.discard(rows, by="alice") for _ in range(2)] == [1, 0]
    assert store.counts_by_reason() == {"failed": 1, "wrong_type": 1}
    assert ask(detail="number 1") == 0


def test_a_body_that_was_cut_is_not_replayed() -> None:
    store.mirror([letter(1)])
    DeadLetter.objects.update(whole_size=2**21)
    ask()
    store.replay_some(lambda row, raw: pytest.fail("handed over"))
    assert "only 2 of its 2097152 bytes" in DeadLetter.objects.get().detail
