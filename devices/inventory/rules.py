"""Read and compare the values of custom fields."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum

from tenants.rules.visible import invisible_in

LONGEST_TEXT = 500
LARGEST_NUMBER = 10**15

Value = str | int | float


class UnfitValue(ValueError):
    """The value is not one of the field's type; the message says what would be."""


class FieldType(StrEnum):
    TEXT = "text"
    NUMBER = "number"
    CHOICE = "choice"
    DATE = "date"


class Comparison(StrEnum):
    """How a filter compares a field's value; its name follows the field's name after `__`."""

    EQUAL = ""
    AT_LEAST = "gte"
    AT_MOST = "lte"
    CONTAINS = "contains"
    EMPTY = "empty"


_COMPARISONS = {
    FieldType.TEXT: {Comparison.EQUAL, Comparison.CONTAINS, Comparison.EMPTY},
    FieldType.NUMBER: set(Comparison) - {Comparison.CONTAINS},
    FieldType.CHOICE: {Comparison.EQUAL, Comparison.EMPTY},
    FieldType.DATE: set(Comparison) - {Comparison.CONTAINS},
}


@dataclass(frozen=True)
class FieldFilter:
    """What a query parameter such as `field.Price__gte` asks of which field."""

    field: str
    comparison: Comparison


def compares(kind: FieldType, comparison: Comparison) -> bool:
    """Return whether values of this type can be compared so."""
    return comparison in _COMPARISONS[kind]


def read_filter_name(name: str) -> FieldFilter:
    """Split `Price__gte` into the field and the comparison."""
    field, separator, ending = name.rpartition("__")
    if separator and ending in set(Comparison) - {Comparison.EQUAL}:
        return FieldFilter(field, Comparison(ending))
    return FieldFilter(name, Comparison.EQUAL)


def read_value(kind: FieldType, choices: Sequence[str], given: object) -> Value:
    """Return the value as it is stored. Raise UnfitValue."""
    match kind:
        case FieldType.NUMBER:
            return _number(given)
        case FieldType.DATE:
            return _date(given)
        case FieldType.CHOICE:
            return _choice(choices, given)
    return _text(given)


def _text(given: object) -> str:
    if not isinstance(given, str) or not given.strip():
        raise UnfitValue("This must be text.")
    text = given.strip()
    if len(text) > LONGEST_TEXT:
        raise UnfitValue(f"At most {LONGEST_TEXT} characters; these are {len(text)}.")
    if character := invisible_in(text):
        raise UnfitValue(
            f"One line of visible characters; remove U+{ord(character):04X}, which is invisible or "
            "changes the direction of the text."
        )
    return text


def _number(given: object) -> int | float:
    if isinstance(given, bool) or not isinstance(given, str | int | float):
        raise UnfitValue("This must be a number.")
    try:
        number = float(given)
    except (ValueError, OverflowError) as error:
        raise UnfitValue(f'"{str(given)[:60]}" is not a number, such as 12 or 12.5.') from error
    if not math.isfinite(number) or abs(number) > LARGEST_NUMBER:
        raise UnfitValue(f"A number between {-LARGEST_NUMBER} and {LARGEST_NUMBER}.")
    return int(number) if number.is_integer() else number


def _date(given: object) -> str:
    if isinstance(given, date):
        return given.isoformat()
    try:
        # Other spellings of ISO 8601 would not sort as text.
        read = date.fromisoformat(given) if isinstance(given, str) else None
    except ValueError:
        read = None
    if read is None or read.isoformat() != given:
        raise UnfitValue(f'"{str(given)[:60]}" is not a date, such as 2026-11-30.')
    return str(given)


def _choice(choices: Sequence[str], given: object) -> str:
    known = {choice.casefold(): choice for choice in choices}
    found = known.get(given.strip().casefold()) if isinstance(given, str) else None
    if found is None:
        raise UnfitValue(f'"{str(given)[:60]}" is not one of: {", ".join(choices)}.')
    return found
