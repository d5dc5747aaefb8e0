"""The detail of an audit entry in words."""

from collections.abc import Mapping
from typing import Any

NOTHING = "\N{EN DASH}"


def in_words(value: Any) -> str:
    """Return the value as one line, such as "Desks → Benches" for a change."""
    match value:
        case {"from": before, "to": after} if len(value) == 2:
            return f"{in_words(before)} → {in_words(after)}"
        case Mapping():
            words = [f"{name}: {in_words(each)}" for name, each in value.items()]
            return ", ".join(words) or NOTHING
        case list():
            return ", ".join(map(in_words, value)) or NOTHING
        case None | "":
            return NOTHING
        case bool():
            return "yes" if value else "no"
    return str(value)
