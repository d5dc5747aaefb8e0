from datetime import date

import pytest

from devices.inventory.rules import (
    Comparison,
    FieldFilter,
    FieldType,
    UnfitValue,
    compares,
    read_filter_name,
    read_value,
)

SITES = ["Berlin", "Łódź"]


@pytest.mark.parametrize(
    ("kind", "given", "stored"),
    [
        (FieldType.TEXT, "  rack 7 ", "rack 7"),
        (FieldType.NUMBER, "12.50", 12.5),
        (FieldType.NUMBER, 12.0, 12),
        (FieldType.NUMBER, "-3", -3),
        (FieldType.CHOICE, "berlin ", "Berlin"),
        (FieldType.CHOICE, "łódź", "Łódź"),
        (FieldType.DATE, "2026-02-28", "2026-02-28"),
        (FieldType.DATE, date(2026, 2, 28), "2026-02-28"),
    ],
)
def test_a_value_is_stored_in_one_spelling(kind: FieldType, given: object, stored: object) -> None:
    read = read_value(kind, SITES, given)
    assert (read, type(read)) == (stored, type(stored))


@pytest.mark.parametrize(
    ("kind", "given", "named"),
    [
        (FieldType.TEXT, 7, "must be text"),
        (FieldType.TEXT, "   ", "must be text"),
        (FieldType.TEXT, "x" * 501, "At most 500"),
        (FieldType.TEXT, "a\nb", "U\\+000A"),
        (FieldType.TEXT, "a\0b", "U\\+0000"),
        (FieldType.TEXT, "a\u202eb", "U\\+202E"),
        (FieldType.NUMBER, "twelve", '"twelve" is not a number'),
        (FieldType.NUMBER, True, "must be a number"),
        (FieldType.NUMBER, "nan", "between"),
        (FieldType.NUMBER, 10**400, "not a number"),
        (FieldType.NUMBER, "1e300", "between"),
        (FieldType.CHOICE, "Paris", '"Paris" is not one of: Berlin, Łódź'),
        (FieldType.CHOICE, ["Berlin"], "is not one of"),
        (FieldType.DATE, "30.11.2026", "such as 2026-11-30"),
        (FieldType.DATE, "2026-02-30", "not a date"),
        (FieldType.DATE, "20260228", "not a date"),
        (FieldType.DATE, 20260228, "not a date"),
    ],
)
def test_an_unfit_value_is_told_what_would_be_right(
    kind: FieldType, given: object, named: str
) -> None:
    with pytest.raises(UnfitValue, match=named):
        read_value(kind, SITES, given)


def test_a_filter_names_a_field_and_a_comparison() -> None:
    assert read_filter_name("Price") == FieldFilter("Price", Comparison.EQUAL)
    assert read_filter_name("Price__gte") == FieldFilter("Price", Comparison.AT_LEAST)
    assert read_filter_name("Price__odd") == FieldFilter("Price__odd", Comparison.EQUAL)
    assert compares(FieldType.DATE, Comparison.AT_MOST)
    assert not compares(FieldType.TEXT, Comparison.AT_MOST)
