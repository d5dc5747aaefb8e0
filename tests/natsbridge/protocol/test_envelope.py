"""What agents send, in both shapes, and what is refused with which word."""

import json
import math
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from natsbridge.errors import MalformedMessage
from natsbridge.protocol import envelope
from natsbridge.protocol.kinds import Heartbeat, Response
from tests.support.strategies import KINDS, REASONS, messages

TENANT, DEVICE = uuid4(), uuid4()


def decode(kind: str, body: Any) -> Any:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return envelope.decode(kind, data, tenant=TENANT, device=DEVICE)


def reason(kind: str, body: Any) -> str:
    with pytest.raises(MalformedMessage) as refused:
        decode(kind, body)
    assert str(refused.value)
    return refused.value.reason


def wrapped(payload: Any, **changes: Any) -> dict[str, Any]:
    return {
        "tenant_uuid": str(TENANT),
        "device_uuid": str(DEVICE),
        "message_type": "heartbeat",
        "payload": payload,
        "timestamp": 1_700_000_000,
        "message_id": "m",
    } | changes


def test_bare_and_wrapped_bodies_mean_the_same() -> None:
    body = {"agent_version": "1", "session_id": "s", "status": {"uptime": 1}}
    assert decode("heartbeat", body) == decode("heartbeat", wrapped(body))
    assert decode("heartbeat", body) == Heartbeat("1", "s", status={"uptime": 1})


def test_a_body_that_merely_has_a_payload_is_not_a_wrapper() -> None:
    assert decode("monitoring", {"payload": {"a": 1}}) == {"payload": {"a": 1}}
    assert decode("monitoring", {"payload": 5, "message_type": "x"})["payload"] == 5


def test_a_response_keeps_its_result_whatever_it_is() -> None:
    command = uuid4()
    body = {"command_id": str(command), "result": {"status": "success", "result": [1, {"a": None}]}}
    decoded = decode("response", body)
    assert isinstance(decoded, Response)
    assert (decoded.command_id, decoded.result.result) == (command, [1, {"a": None}])


@pytest.mark.parametrize(
    "claim", [{"device_uuid": str(uuid4())}, {"tenant_uuid": str(uuid4())}, {"device_uuid": "x"}]
)
def test_a_body_may_not_claim_another_identity_in_either_shape(claim: dict[str, str]) -> None:
    assert reason("heartbeat", claim) == "foreign_identity"
    assert reason("heartbeat", wrapped({}, **claim)) == "foreign_identity"
    assert reason("heartbeat", wrapped(claim)) == "foreign_identity"


def test_identities_are_compared_without_case() -> None:
    assert decode("status", {"device_uuid": str(DEVICE).upper()})


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"", "malformed_json"),
        (b"{", "malformed_json"),
        (b"\xff\xfe{}", "malformed_json"),
        (b'{"a": "\xff"}', "malformed_json"),
        (b'{"a": NaN}', "malformed_json"),
        (b"{} x", "malformed_json"),
        (b"[]", "wrong_type"),
        (b"null", "wrong_type"),
        (b'{"a":' + b"[" * 101 + b"]" * 101 + b"}", "too_deep"),
        (b'{"a":' + b"[" * 500_000, "too_deep"),
        (b'{"device_uuid": 5}', "wrong_type"),
    ],
)
def test_a_body_that_is_not_an_object_is_refused_with_a_word(body: bytes, word: str) -> None:
    assert reason("monitoring", body) == word


@pytest.mark.parametrize(
    "number", ["1e308", "-1E308", "1e-308", "5e-324", "1" + "0" * 41, "-" + "9" * 300, "1.5e41"]
)
@pytest.mark.parametrize("place", ['{"a":%s}', '{"a": [1,\n\t%s]}', '{"payload":{"x":[[%s]]}}'])
def test_a_number_that_the_database_would_write_out_at_length_is_refused(
    place: str, number: str
) -> None:
    assert reason("monitoring", (place % number).encode()) == "number_out_of_range"


def test_every_number_that_a_computer_has_of_itself_is_taken() -> None:
    numbers = [0, 0.0, -1, 2**64, 3.4e38, -1.2e-38, 1e21, 1e-9, 1e15, True]
    body = {"numbers": numbers, "text": ":1e308, 99999999999999999999999999999999999999999999"}
    assert decode("monitoring", body) == body


def test_brackets_in_strings_are_not_depth() -> None:
    text = "[" * 5000 + '"' + "{" * 5000
    assert decode("monitoring", {"a": text}) == {"a": text}
    assert decode("monitoring", {"rows": [[1]] * 1000})


@pytest.mark.parametrize("end", [b"", b"\\", b'"'])
@pytest.mark.parametrize("start", [b'["', b'"'])
def test_what_is_in_a_string_is_not_depth_even_in_one_without_an_end(
    start: bytes, end: bytes
) -> None:
    assert reason("monitoring", start + b"[" * 200 + end) != "too_deep"


@pytest.mark.parametrize(
    "worst", [b'"' + b'\\"' * 500_000, b'"' + b"\\" * 1_000_000, b'""' * 500_000, b"[]" * 500_000]
)
def test_no_message_takes_much_longer_to_look_at_than_an_honest_one_of_its_size(
    worst: bytes,
) -> None:
    honest = json.dumps({"rows": [{"name": "x", "value": n} for n in range(35_000)]}).encode()
    assert len(honest) > 1_000_000
    usual = seconds_for(honest)
    assert seconds_for(b"[" * 101 + worst) < 50 * max(usual, 0.01)


def seconds_for(body: bytes) -> float:
    """Of the processor, the least of three: other load on the machine does not count."""
    taken = []
    for _ in range(3):
        started = time.thread_time()
        with suppress(MalformedMessage):
            decode("monitoring", body)
        taken.append(time.thread_time() - started)
    return min(taken)


def test_nul_is_replaced_wherever_it_stands() -> None:
    body = {"a\0": ["\0", {"b": "x\0y"}], "c": "\\u0000 stays"}
    clean = decode("monitoring", body)
    assert clean == {"a\ufffd": ["\ufffd", {"b": "x\ufffdy"}], "c": "\\u0000 stays"}
    beat = decode("heartbeat", {"agent_version": "\0", "system_info": {"\0": 1}})
    assert beat == Heartbeat("\ufffd", system_info={"\ufffd": 1})


@pytest.mark.parametrize(
    ("seconds", "milliseconds"),
    [(1_700_000_000, None), (1_700_000_000_000, None), (None, 1_700_000_000_000)],
)
def test_seconds_and_milliseconds_are_told_apart(
    seconds: float | None, milliseconds: float | None
) -> None:
    expected = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert envelope.timestamp(seconds, milliseconds) == expected


@pytest.mark.parametrize("value", [-1.0, 1e18, 1e300])
def test_a_number_that_is_not_a_time_is_none(value: float) -> None:
    assert envelope.timestamp(value) is None


@pytest.mark.parametrize(
    ("said", "understood"),
    [
        ({"agent_version": 7}, Heartbeat(agent_version="7")),
        ({"agent_version": 1.2}, Heartbeat(agent_version="1.2")),
        ({"agent_version": "v" * 70, "session_id": 5}, Heartbeat("v" * 64, "5")),
        ({"agent_version": True, "session_id": [1], "status": 3}, Heartbeat()),
        ({"capabilities": ["osquery", "psutil"]}, {"tools": ["osquery", "psutil"]}),
        ({"capabilities": [{"name": "ping"}]}, {"commands": [{"name": "ping"}]}),
        ({"capabilities": []}, {"tools": []}),
        ({"capabilities": "all", "system_info": "Linux"}, Heartbeat()),
        (dict.fromkeys(Heartbeat.__struct_fields__), Heartbeat()),
        ({"status": ["online"], "session_id": "s"}, Heartbeat(session_id="s")),
    ],
    ids=str,
)
@pytest.mark.parametrize("shape", [lambda body: body, wrapped])
def test_a_heartbeat_is_read_whatever_stands_in_a_field_that_it_need_not_have(
    shape: Any, said: dict[str, Any], understood: Any
) -> None:
    if isinstance(understood, dict):
        understood = Heartbeat(capabilities=understood)
    assert decode("heartbeat", shape(said)) == understood


@pytest.mark.parametrize(
    ("said", "moment"),
    [
        ("2026-01-10T00:00:00Z", 1_768_003_200),
        ("2026-01-10T01:00:00.500+01:00", 1_768_003_200.5),
        ("2026-01-10T00:00:00", 1_768_003_200),
        ("2026-01-10", 1_768_003_200),
        ("1768003200", 1_768_003_200),
        ("1768003200000", 1_768_003_200),
        (1_768_003_200, 1_768_003_200),
        ("yesterday", None),
        ("0001-01-01T00:00:00+14:00", None),
        ("nan", None),
        (-1, None),
        (True, None),
        ([], None),
        (None, None),
    ],
)
def test_a_time_is_read_as_a_number_as_text_and_as_iso_8601(said: Any, moment: Any) -> None:
    beat = decode("heartbeat", {"timestamp": said})
    own = envelope.timestamp(beat.timestamp, beat.timestamp_ms)
    assert own == (None if moment is None else datetime.fromtimestamp(moment, UTC))
    metric = json.dumps({"value": 45.2, "timestamp": said}).encode()
    expected = None if moment is None else round(moment * 1000)
    assert envelope.decode_metric(metric, device=DEVICE) == (45.2, expected)


@pytest.mark.parametrize("value", ["45.2", None, True, [], {}])
def test_a_metric_needs_a_number_for_its_value(value: Any) -> None:
    with pytest.raises(MalformedMessage) as refused:
        envelope.decode_metric(json.dumps({"value": value}).encode(), device=DEVICE)
    assert refused.value.reason == "wrong_type"


def test_a_response_may_have_any_time() -> None:
    body = {"command_id": str(uuid4()), "result": {"status": "success"}}
    for said in ("2026-01-10T00:00:00Z", None, "soon", [1]):
        assert decode("response", body | {"timestamp": said}).result.status == "success"


@pytest.mark.parametrize("spelling", ["{0.hex}", "{{{0}}}", "urn:uuid:{0}"])
def test_its_own_identity_may_be_spelt_in_any_way(spelling: str) -> None:
    spelt = spelling.format(DEVICE)
    assert decode("heartbeat", wrapped({"session_id": "s"}, device_uuid=spelt)).session_id == "s"
    assert decode("status", {"device_uuid": spelt})


def test_a_metric_has_a_value_and_perhaps_a_time() -> None:
    assert envelope.decode_metric(b'{"value": 1}', device=DEVICE) == (1.0, None)
    body = b'{"value": 1.5, "timestamp": 1700000000}'
    assert envelope.decode_metric(body, device=DEVICE) == (1.5, 1_700_000_000_000)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(kind=st.sampled_from(KINDS), data=messages(TENANT, DEVICE))
def test_any_bytes_are_a_body_or_malformed_with_a_known_reason(kind: str, data: bytes) -> None:
    refusal: MalformedMessage | None = None
    try:
        if kind == "metric":
            value, moment = envelope.decode_metric(data, device=DEVICE)
        else:
            body = envelope.decode(kind, data, tenant=TENANT, device=DEVICE)
    except MalformedMessage as error:
        refusal = error
    if refusal is not None:
        assert refusal.reason in REASONS
        assert str(refusal)
        return
    if kind == "metric":
        assert math.isfinite(value)
        assert moment is None or 0 <= moment < 2**53
        return
    expected = {"heartbeat": Heartbeat, "response": Response}.get(kind, dict)
    assert isinstance(body, expected)
    assert b"\\u0000" not in msgspec.json.encode(body).replace(b"\\\\", b"")


def test_a_uuid_is_read_in_any_spelling() -> None:
    command = UUID("5d6d6d3e-55cb-4b2d-8a58-35f4a7c44d7c")
    body = {"command_id": str(command).upper(), "result": {"status": "received"}}
    assert decode("response", body).command_id == command
