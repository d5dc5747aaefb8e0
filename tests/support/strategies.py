"""What a device may send: bodies of every kind, right, nearly right, and torn."""

import json
from typing import Any
from uuid import UUID, uuid4

from hypothesis import strategies as st

KINDS = ("heartbeat", "response", "status", "monitoring", "sysinfo", "metric")
REASONS = {
    "malformed_json",
    "wrong_type",
    "too_deep",
    "number_out_of_range",
    "foreign_identity",
    "not_finite",
}

# What `json` would not write, put in the place of a text.
_RAW = [
    *("1e308", "-1e309", "1e-320", "9" * 400, "1" + "0" * 41, "-0.0", "01", "NaN", "Infinity"),
    *(r'"\u0000"', r'"\\u0000"', r'"\\\u0000x"', r'"\ud800"', r'"\udc00\ud800"', '"\0"'),
    *("[" * 150 + "]" * 150, '{"a":' * 99 + "1" + "}" * 99, "[" * 5000, "[]" * 200),
    *("18446744073709551616", "-9223372036854775809", "", "tru", '"'),
]
_TIMES = [
    *(
        "2026-01-10T00:00:00Z",
        "2026-01-10T00:00:00+25:00",
        "0001-01-01",
        "9999-12-31T23:59:59-01:00",
    ),
    *("now", "1e400", "٣", "nan", -1, 0, 1e12, 253402300799, 253402300800, 2**63, 1e39),
]
_NAMES = [
    *("agent_version", "session_id", "timestamp", "timestamp_ms", "capabilities", "system_info"),
    *("status", "command_id", "result", "value", "metric_type", "monitoring_type", "more"),
]
_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(-1e30, 1e30),
    st.text(max_size=20),
    st.sampled_from(_TIMES),
    st.sampled_from(["x" * 300, "\0", "\\u0000", "é☃𝄞"]),
)
_values = st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4)
    ),
    max_leaves=10,
)
_results = st.fixed_dictionaries(
    {"status": st.sampled_from(["success", "error", "received", "else", 1])},
    optional={"result": _values, "error": _values, "cut_from": _values},
)


def _bodies(device: UUID, command: UUID) -> st.SearchStrategy[dict[str, Any]]:
    """Many have what their kind needs."""
    needed = st.fixed_dictionaries(
        {
            "command_id": st.sampled_from([str(command)] * 6 + [str(uuid4()), "1", None]),
            "result": _results | _results | _results | _values,
            "value": st.floats(-1e30, 1e30) | st.floats() | _values,
        },
        optional=dict.fromkeys(_NAMES[:7], _values) | {"monitoring_type": _values},
    )
    return st.one_of(
        needed,
        needed,
        st.dictionaries(st.sampled_from(_NAMES), _values),
        st.dictionaries(
            st.sampled_from(["device_uuid", "tenant_uuid"]), _values | st.just(str(device))
        ),
    )


def messages(tenant: UUID, device: UUID, command: UUID | None = None) -> st.SearchStrategy[bytes]:
    """`command`: one that a response may be to."""

    @st.composite
    def message(draw: st.DrawFn) -> bytes:
        body: Any = draw(_bodies(device, command or device))
        if draw(st.booleans()):
            wrapper = {"tenant_uuid": str(tenant), "device_uuid": str(device), "payload": body}
            body = wrapper | {"message_type": draw(_values), "timestamp": draw(_values)}
        if draw(st.integers(0, 2)) == 0:
            target = body.get("payload", body)
            target[draw(st.sampled_from(_NAMES))] = "MARK"
        text = json.dumps(body, ensure_ascii=draw(st.booleans()))
        text = text.replace('"MARK"', draw(st.sampled_from(_RAW)))
        encoding = draw(st.sampled_from(["utf-8"] * 8 + ["utf-16", "latin-1", "utf-8-sig"]))
        data = text.encode(encoding, errors="surrogatepass" if "utf" in encoding else "replace")
        if draw(st.integers(0, 9)) == 0:
            at = draw(st.integers(0, len(data)))
            data = data[:at] + draw(st.binary(max_size=3)) + data[at + draw(st.integers(0, 9)) :]
        return data

    return st.one_of(message(), message(), message(), st.binary(max_size=100))
