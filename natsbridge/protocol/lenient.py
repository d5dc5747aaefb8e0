"""Pure: values that an agent may leave out, read from whatever it wrote instead.

What cannot be read counts as left out: it costs the message nothing else.
"""

import math
from datetime import UTC, datetime
from typing import Any

# The longest spelling of a time, with room to spare.
_LONGEST_TIME = 64


def text(value: Any, limit: int) -> str | None:
    """Return a text, or a number as text, cut to `limit` characters."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return str(value)[:limit]


def number(value: Any) -> float | None:
    """Return a time's number: itself, as text, or the epoch seconds of ISO 8601 (UTC, where it
    names no zone)."""
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
    """Return an object as it is, and of a list the described commands, or else the names, under
    the key where an object has them."""
    if not isinstance(value, list):
        return json_object(value)
    commands = [each for each in value if isinstance(each, dict)]
    return {"commands": commands} if commands else {"tools": value}
