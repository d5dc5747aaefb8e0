"""Pure: which JSON from people and devices can be stored, and sent on to an agent."""

import json
from collections.abc import Iterable
from typing import Any

from devices.errors import UnfitJson

# The broker carries 1 MiB a message, and the wrapper wants some of it.
MAX_BYTES = 512 * 1024
# Far below the depth at which a JSON parser of any agent gives up.
MAX_DEPTH = 64
# Postgres writes a number out: `1e308` takes fifty times its room there.
_LARGEST, _SMALLEST = 1e40, 1e-40


def check(value: Any) -> None:
    """Raise UnfitJson for what is too large, too deep, or holds what Postgres cannot store."""
    level, depth = [value], 0
    # Level by level, since a walk that calls itself is what deep values break.
    while level:
        if containers := [each for each in level if isinstance(each, dict | list)]:
            depth += 1
            if depth > MAX_DEPTH:
                raise UnfitJson(f"Nested more than {MAX_DEPTH} levels deep.")
        for each in level:
            _check_scalar(each)
        level = [inner for each in containers for inner in _inside(each)]
    if len(json.dumps(value, ensure_ascii=False).encode()) > MAX_BYTES:
        raise UnfitJson(f"Larger than {MAX_BYTES} bytes.")


def _inside(container: Any) -> Iterable[Any]:
    return [*container, *container.values()] if isinstance(container, dict) else container


def _check_scalar(value: Any) -> None:
    if isinstance(value, str):
        if "\0" in value:
            raise UnfitJson("NUL characters are not allowed.")
        if not value.isascii() and any("\ud800" <= each <= "\udfff" for each in value):
            raise UnfitJson("Half of a surrogate pair is not a character.")
    elif isinstance(value, int | float) and value and not _SMALLEST < abs(value) < _LARGEST:
        raise UnfitJson("A number is out of range: 1e-40 to 1e40, positive or negative, or 0.")
