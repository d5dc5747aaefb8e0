"""Results larger than what is kept are cut, so that something readable is left."""

import json

import pytest

from devices.commands.rules.truncation import members_within, within

ROWS = [{"pid": number, "name": "x" * 20} for number in range(100)]


def size(value: object) -> int:
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def test_what_fits_stays_as_it_is() -> None:
    assert within(ROWS, size(ROWS)) == (ROWS, None)
    assert within(None, 10) == (None, None)


def test_of_a_list_the_first_elements_are_kept() -> None:
    kept = within(ROWS, 1000)
    assert kept.value == ROWS[: len(kept.value)]
    assert 900 < size(kept.value) <= 1000
    assert kept.cut_from == size(ROWS)


@pytest.mark.parametrize("value", ["x" * 5000, '"\n' * 5000, "ü" * 5000, {"key": "y" * 5000}])
def test_of_a_text_or_an_object_the_beginning_is_kept_as_text(value: object) -> None:
    kept = within(value, 1000)
    text = value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
    assert text.startswith(kept.value)
    assert 990 < size(kept.value) <= 1000
    assert kept.cut_from == size(value)


def test_a_list_of_one_giant_is_kept_as_text() -> None:
    assert within(["x" * 5000], 1000).value.startswith('["xxx')


def test_of_members_the_smaller_are_kept_and_the_rest_is_told() -> None:
    members = {"b": [2], "large": "x" * 500, "a": 1, "larger": "y" * 900}
    assert members_within(members, 2_000) == members
    kept = members_within(members, 100)
    assert list(kept) == ["b", "a", "(removed)"], "in the device's order"
    assert kept == {"a": 1, "b": [2], "(removed)": kept["(removed)"]}
    assert kept["(removed)"].startswith("2 of 4 members")
