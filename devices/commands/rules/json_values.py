"""Pure: check that a JSON value can be stored, and sent to an agent."""

import json
from collections.abc import Iterable
from typing import Any

from devices.errors import UnfitJson

# A message may have 1 MiB, and the wrapper needs some of it.
MAX_BYTES = 512 * 1024
# Far below the depth at which a JSON parser of any agent gives up.
MAX_DEPTH = 64
# Postgres stores numbers with all their digits: `1e308` takes fifty times its size there.
_LARGEST, _SMALLEST = 1e40, 1e-40


def check(value: Any) -> None:
    """Raise UnfitJson for what is too large, too deep, or holds what Postgres cannot store."""
    level, depth = [value], 0
    # Level by level, since a deep value would exceed the limit of a recursive walk.
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
