"""Read optional values leniently, in whatever form an agent wrote them.

A value that cannot be read counts as left out; the rest of its message is used.
"""

import math
from datetime import UTC, datetime
from typing import Any

# Longer than any spelling of a time.
_LONGEST_TIME = 64


def text(value: Any, limit: int) -> str | None:
    """Return a text, or a number as text, cut to `limit` characters; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return str(value)[:limit]


def number(value: Any) -> float | None:
    """Return a number that was written as a number, as text, or as a time in ISO 8601.

    Such a time becomes epoch seconds; without a zone it is read as UTC.
    """
    if isinstance(value, str) and len(value) <= _LONGEST_TIME:
        value = _from_text(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def _from_text(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def json_object(value: Any) -> dict[str, Any] | None:
    return value if isinstance(value, dict) else None


def capabilities(value: Any) -> dict[str, Any] | None:
    """Return an object as it is, and a list as the object it stands for.

    The object has the list's described commands under `commands`, or else its names under `tools`.
    """
    if not isinstance(value, list):
        return json_object(value)
    commands = [each for each in value if isinstance(each, dict)]
    return {"commands": commands} if commands else {"tools": value}
