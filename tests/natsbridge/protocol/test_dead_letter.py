from datetime import UTC, datetime

import pytest

from natsbridge.errors import MalformedMessage
from natsbridge.protocol import dead_letter, subjects
from natsbridge.protocol.envelope import RawMessage

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
ACCOUNT = "A" * 56


def packed(
    body: bytes, headers: dict[str, str] | None = None, detail: str = "why", room: int = 10**6
) -> bytes:
    message = RawMessage(f"ingest.{ACCOUNT}.x", body, headers or {}, NOW)
    return dead_letter.pack(
        message, source="ingest", reason="failed", detail=detail, attempts=5, room=room
    )


def test_a_dead_letter_holds_all_that_came() -> None:
    label, body = dead_letter.unpack(packed(b"{\n\xff\0", {"Nats-Msg-Id": "1\n2"}))
    assert body == b"{\n\xff\0"
    assert label == dead_letter.Label(
        "ingest", f"ingest.{ACCOUNT}.x", {"Nats-Msg-Id": "1\n2"}, NOW, "failed", "why", 5
    )


def test_what_neither_json_nor_postgres_can_hold_is_packed_all_the_same() -> None:
    label, _ = dead_letter.unpack(packed(b"", {"h\0": "\ud800"}, "a\0" * 20_000))
    assert label.headers == {"h\N{REPLACEMENT CHARACTER}": "?"}
    assert "\0" not in label.detail
    assert len(label.detail) == 16_000


def test_headers_without_end_leave_room_for_the_body() -> None:
    label, body = dead_letter.unpack(packed(b"{}", {"h": "\1" * 500_000}))
    assert (label.headers, body) == ({"(removed)": "1 headers of 500001 characters"}, b"{}")


def test_a_body_that_finds_no_room_is_cut_and_says_so() -> None:
    data = packed(b"x" * 2_000, room=1_000)
    label, body = dead_letter.unpack(data)
    assert len(data) == 1_000
    assert label.whole_size == 2_000
    assert 0 < len(body) < 1_000


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff\n", b'{"source": 1}\n', b"[" * 9999])
def test_data_that_is_not_a_dead_letter_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedMessage):
        dead_letter.unpack(data)


@pytest.mark.parametrize(
    ("subject", "reason", "expected"),
    [
        (f"ingest.{ACCOUNT}.tenant.x", "wrong_type", f"dlq.{ACCOUNT}.wrong_type"),
        (f"broker.{ACCOUNT}.connect", "bad word.>", f"dlq.{ACCOUNT}.bad_word__"),
        ("anything", "", "dlq.unknown.unknown"),
        ("ingest.*.x", "failed", "dlq.unknown.failed"),
    ],
)
def test_each_account_and_reason_has_a_subject_of_its_own(
    subject: str, reason: str, expected: str
) -> None:
    assert subjects.dead_letter_subject(subject, reason) == expected
