"""What may go with a command: enough for every agent, and nothing that one of them cannot read."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.commands.rules import json_values
from devices.errors import UnfitJson


def nested(levels: int, kind: type = dict) -> Any:
    """So many objects or arrays, one in the other."""
    value: Any = {} if kind is dict else []
    for _ in range(levels - 1):
        value = {"a": value} if kind is dict else [value]
    return value


@pytest.mark.parametrize("kind", [dict, list])
def test_sixty_four_levels_are_enough_and_one_more_is_too_many(kind: type) -> None:
    json_values.check(nested(64, kind))
    for levels in (65, 600, 100_000):
        with pytest.raises(UnfitJson, match="more than 64 levels"):
            json_values.check(nested(levels, kind))


@pytest.mark.parametrize(
    "value",
    [
        {"a": "x" * json_values.MAX_BYTES},
        {"a": "\0"},
        {"a\0": 1},
        {"a": "\ud800"},
        {"\udfff": 1},
        {"a": [1e308] * 20_000},
        {"a": 10**400},
        {"a": -1e41},
        {"a": 5e-324},
        {"a": float("nan")},
        {"a": float("-inf")},
    ],
)
def test_what_cannot_be_stored_or_carried_is_refused(value: Any) -> None:
    with pytest.raises(UnfitJson):
        json_values.check(value)


@pytest.mark.parametrize(
    "value", [{"a": "\\u0000"}, {"a": "\N{GRINNING FACE}"}, {"a": [0, -0.0, True, None, 2**64]}, {}]
)
def test_what_only_looks_like_it_is_taken(value: Any) -> None:
    json_values.check(value)


json_texts = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(json_texts)
def test_whatever_passes_comes_back_as_it_was(value: Any) -> None:
    try:
        json_values.check(value)
    except UnfitJson:
        return
    assert json.loads(json.dumps(value, ensure_ascii=False).encode()) == value
